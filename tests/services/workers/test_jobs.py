"""ramcloud's queues: bounded by what is connected, and nothing waits in them for ever."""

from __future__ import annotations

import os
import re
import select
import signal
import socket
import struct
from pathlib import Path

import pytest
from support.servers import read_response, wait_for_busy, wait_until

from services.messages import Command
from services.metrics import slots
from services.net.connection import Connection
from services.net.job import Job
from services.net.mailbox import Mailbox
from services.workers.jobs import JobQueues

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
BLOCK = b"GET /work?block=20s HTTP/1.1\r\nHost: x\r\n\r\n"
MEGABYTE = 1 << 20


def make_queues(workers: int = 2) -> JobQueues:
    blocks = slots.Slots(workers)
    return JobQueues([blocks.worker(index) for index in range(workers)], blocks.main)


def make_job() -> Job:
    return Job(Connection(None), Command("get"))


def reset(client: socket.socket) -> None:
    """End the connection with RST."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def rss(pid: int) -> int:
    return int(re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())[1]) * 1024


def something_comes(client: socket.socket, seconds: float = 5) -> bool:
    return bool(select.select([client], [], [], seconds)[0])


def test_withdrawn_job_is_not_taken() -> None:
    queues, jobs = make_queues(1), [make_job() for _ in range(3)]
    for job in jobs:
        queues.put(job)
    queues.withdraw(jobs[1])
    queues.withdraw(jobs[1])
    assert [queues.take(0), queues.take(0), queues.take(0)] == [jobs[0], jobs[2], None]


def test_withdrawn_job_leaves_a_workers_own_queue() -> None:
    queues, job = make_queues(), make_job()
    queues.put_for(1, job)
    queues.withdraw(job)
    assert queues.take(1) is None


def test_dead_workers_queue_goes_back_and_it_is_passed_over() -> None:
    queues, jobs = make_queues(3), [make_job() for _ in range(2)]
    for job in jobs:
        queues.put_for(0, job)
    assert queues.lose(0) == jobs
    late = make_job()
    queues.put_for(0, late)
    assert queues.take(1) is late
    assert queues.least_loaded() != 0
    queues.expect(0)
    queues.put_for(0, late)
    assert queues.take(0) is late


def test_least_loaded_has_the_fewest_jobs_queued_or_running() -> None:
    queues, given = make_queues(3), []
    for idle in (1, 2):  # the first has one running
        queues.take(idle)
    for _ in range(5):
        given.append(queues.least_loaded())
        queues.put_for(given[-1], make_job())
    assert given == [1, 2, 0, 1, 2]


def test_jobs_wait_while_every_worker_is_dead() -> None:
    queues, job = make_queues(2), make_job()
    for worker in (0, 1):
        queues.take(worker)
        queues.lose(worker)
    queues.put_for(queues.least_loaded(), job)
    queues.put(other := make_job())
    queues.expect(1)
    assert [queues.take(1), queues.take(1)] == [job, other]


@pytest.mark.parametrize(("last_idle_first", "woken"), [(True, [2, 1]), (False, [0, 1])])
def test_as_many_idle_workers_are_woken_as_there_are_jobs(last_idle_first, woken) -> None:
    queues = make_queues(3)
    queues.last_idle_first = last_idle_first
    for worker in range(3):
        queues.take(worker)
    assert queues.to_wake() == []
    queues.put(make_job())
    queues.put(make_job())
    assert queues.to_wake() == woken
    assert queues.to_wake() == []  # the jobs are still there, but promised
    queues.put(make_job())
    assert len(queues.to_wake()) == 1


def test_woken_worker_that_is_busy_again_keeps_no_job_from_the_others() -> None:
    queues = make_queues(2)
    for worker in range(2):
        queues.take(worker)
    queues.put(make_job())
    (first,) = queues.to_wake()
    queues.take(first)
    queues.put(make_job())
    assert queues.to_wake() == [1 - first]


def test_worker_with_a_job_of_its_own_is_woken_for_it() -> None:
    queues = make_queues(3)
    for worker in range(3):
        queues.take(worker)
    queues.put_for(1, make_job())
    assert queues.to_wake() == [1]
    assert queues.to_wake() == []


def test_worker_that_finds_a_job_without_being_woken_is_idle_no_more() -> None:
    queues = make_queues(2)
    assert [queues.take_or_idle(worker) for worker in (0, 1)] == [None, None]
    queues.put(make_job())
    assert queues.take_or_idle(1) is not None
    queues.put(make_job())
    assert queues.to_wake() == [0]


def test_busy_worker_is_not_woken() -> None:
    queues = make_queues(1)
    queues.put(make_job())
    assert queues.to_wake() == []
    assert queues.take(0) is not None


def test_depths_are_shown_until_nothing_is_queued() -> None:
    blocks = slots.Slots(1)
    queues = JobQueues([blocks.worker(0)], blocks.main)
    queues.put(make_job())
    queues.put_for(0, make_job())
    assert queues.show_depths()
    assert (blocks.main[slots.QUEUED], blocks.worker(0)[slots.QUEUED]) == (1, 1)
    queues.take(0)
    queues.take(0)
    assert not queues.show_depths()
    assert (blocks.main[slots.QUEUED], blocks.worker(0)[slots.QUEUED]) == (0, 0)


@pytest.mark.parametrize("kind", ["thread", "process"])
@pytest.mark.parametrize("dispatch", ["request-idle-stack", "connection"])
def test_requests_of_peers_that_reset_are_withdrawn(serve, kind, dispatch) -> None:
    server = serve("ramcloud", "--worker-kind", kind, "--workers", "1", "--dispatch", dispatch, "--drain", "0.2")
    server.connect().sendall(BLOCK)
    wait_for_busy(server)
    before = rss(server.pid)
    for _ in range(3):
        clients = [server.connect() for _ in range(50)]
        for client in clients:
            client.sendall(b"PUT /kv/k HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % MEGABYTE + bytes(MEGABYTE))
        wait_until(lambda: server.metric("lab_queue_depth") == 50, what="fifty queued requests")
        for client in clients:
            reset(client)
        wait_until(lambda: server.metric("lab_connections_open") == 1, what="the end of all but one")
        wait_until(lambda: server.metric("lab_queue_depth") == 0, what="an empty queue")
    # What the allocator keeps of the first fifty serves for the next: 150 MB if they were still held.
    assert rss(server.pid) - before < 100 * MEGABYTE


@pytest.mark.parametrize("kind", ["thread", "process"])
@pytest.mark.parametrize("dispatch", ["request-idle-stack", "request-least-loaded"])
def test_queue_depth_returns_to_zero(serve, kind, dispatch) -> None:
    server = serve("ramcloud", "--worker-kind", kind, "--workers", "1", "--dispatch", dispatch)
    clients = [server.connect() for _ in range(5)]
    for client in clients:
        client.sendall(b"GET /work?block=300ms HTTP/1.1\r\nHost: x\r\n\r\n")
    wait_until(lambda: server.metric("lab_queue_depth") > 0, what="a queue")
    for client in clients:
        assert read_response(client).startswith(b"HTTP/1.1 200")
    wait_until(lambda: server.metric("lab_queue_depth") == 0, what="an empty queue")


@pytest.mark.parametrize("dispatch", ["request-least-loaded", "connection"])
def test_queue_depth_is_right_after_a_kill(serve, dispatch) -> None:
    server = serve("ramcloud", "--worker-kind", "process", "--workers", "1", "--dispatch", dispatch, "--drain", "0.2")
    first = server.connect()
    first.sendall(BLOCK)
    victim = wait_for_busy(server)[0]
    second = server.connect()
    second.sendall(BLOCK)
    waiting = [server.connect() for _ in range(4)]
    for client in waiting:
        client.sendall(GET)
    wait_until(lambda: server.metric("lab_queue_depth") == 5, what="five in the queue")
    os.kill(victim["pid"], signal.SIGKILL)
    assert first.recv(1) == b""
    wait_until(lambda: server.metric("lab_queue_depth") == 4, what="four in the queue: the successor has one")
    killed_again = next(worker["pid"] for worker in wait_for_busy(server))
    os.kill(killed_again, signal.SIGKILL)
    for client in waiting:
        assert read_response(client).startswith(b"HTTP/1.1 200")
    wait_until(lambda: server.metric("lab_queue_depth") == 0, what="an empty queue")
    assert server.metric("lab_connections_closed_total", reason="worker_died") == 2


def test_mailbox_without_a_limit_refuses_nothing() -> None:
    taken: list[int] = []
    mailbox = Mailbox(taken.append)
    assert all(mailbox.put(item) for item in range(100_000))
    mailbox.ready(0)
    assert len(taken) == 100_000


def test_answer_to_a_gone_client_does_not_crowd_out_a_live_one(serve_with) -> None:
    # One connection may be open at a time; main is slow to look into its mailbox, so that the answer to a client that
    # is gone still lies in it when the worker has the next one.
    slow_main = (
        "import time\n"
        "from services.net.mailbox import Mailbox\n"
        "ready = Mailbox.ready\n"
        "Mailbox.ready = lambda self, events: (time.sleep(1), ready(self, events))\n"
    )
    server = serve_with(slow_main, "ramcloud", "--workers", "1", "--max-connections", "1")
    gone = server.connect()
    gone.sendall(b"GET /work?block=1s HTTP/1.1\r\nHost: x\r\n\r\n")
    wait_for_busy(server)
    reset(gone)
    wait_until(lambda: server.metric("lab_connections_open") == 0, what="its end")
    assert server.ask(GET).startswith(b"HTTP/1.1 200")


class Execution:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def end_of_input(self) -> None:
        self.told.append("end")

    def cancel(self) -> None:
        self.told.append("cancel")


def test_execution_is_told_about_its_client_although_it_is_known_late() -> None:
    early, late, later = Execution(), Execution(), Execution()
    job = make_job()
    job.attend(early)
    assert early.told == []
    job.end_of_input()
    job.attend(late)
    job.cancel()
    job.attend(later)
    assert (early.told, late.told, later.told) == (["end"], ["end", "cancel"], ["cancel"])
