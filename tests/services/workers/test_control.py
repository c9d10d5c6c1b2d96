"""`control.sock`: options change while the server runs, nobody is refused, and nothing is left over."""

from __future__ import annotations

import resource
import signal
import socket
import stat
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from operator import le
from pathlib import Path

import pytest
from support import disks, plain_http
from support.control import change, connect, say
from support.servers import Server, alive, keep_busy, read_response, wait_until

GET = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
LAST_WORD_SECONDS = 0.1
"""A connection that has been silent for so long is closed by a server that drains."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A state folder whose path no socket address could hold."""
    return tmp_path / ("long" * 30)


MODELS = [
    ("nodejs", "--cluster", "1"),
    ("memcached", "--worker-kind", "thread"),
    ("memcached", "--worker-kind", "process"),
    ("ramcloud", "--worker-kind", "thread"),
    ("ramcloud", "--worker-kind", "process"),
    ("nginx", "--worker-kind", "thread"),
    ("nginx", "--worker-kind", "process"),
    ("reuseport", "--worker-kind", "process"),
]


@pytest.mark.parametrize("options", MODELS, ids=lambda options: " ".join(options))
def test_workers_are_added_and_taken_away(serve, folder, options) -> None:
    server = serve(*options, "--workers", "2", "--state-dir", str(folder))
    name = "cluster" if options[0] == "nodejs" else "workers"
    server.get("/")
    requests = server.metric("lab_requests_total")
    for number in (5, 1):
        assert change(folder, **{name: number})["options"][name] == number
        assert len(server.state()["workers"]) == number
        assert server.metric("lab_worker_serving") == number
        assert server.get("/").status_code == 200
    assert server.metric("lab_requests_total") > requests >= 1
    assert server.metric("lab_worker_restarts_total") == 0


@pytest.mark.parametrize("options", MODELS, ids=lambda options: " ".join(options))
def test_changes_leave_nothing_behind(serve, folder, options) -> None:
    server = serve(*options, "--workers", "2", "--state-dir", str(folder))

    def held() -> tuple[int, int, int]:
        main = Path(f"/proc/{server.pid}")
        return len(list((main / "fd").iterdir())), len(list((main / "task").iterdir())), len(server.descendants())

    change(folder, drain=5)
    before = held()
    for seconds in (6, 7, 8, 9):
        change(folder, drain=seconds)
    # What was at work at the beginning may have gone, too.
    wait_until(lambda: all(map(le, held(), before)), what=f"no more than {before}")
    assert server.get("/").status_code == 200


@pytest.mark.parametrize("options", [model for model in MODELS if model[0] != "reuseport"], ids=" ".join)
def test_nobody_is_refused_meanwhile(serve, folder, options) -> None:
    server = serve(*options, "--workers", "2", "--state-dir", str(folder))
    over = threading.Event()

    def ask_and_ask() -> set[bytes]:
        answers = set()
        while not over.is_set():
            begun = time.monotonic()
            with closing(socket.create_connection(("127.0.0.1", server.port), timeout=10)) as client:
                with suppress(ConnectionError):
                    client.sendall(GET)
                late, answer = time.monotonic() - begun > LAST_WORD_SECONDS, b""
                with suppress(ConnectionError):
                    answer = read_response(client)
            if answer or not late:
                answers.add(answer[:12])
        return answers

    with ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(ask_and_ask) for _ in range(4)]
        try:
            for backlog in (50, 60, 70):
                change(folder, backlog=backlog)
        finally:
            over.set()
    assert [answers.result() for answers in asking] == [{b"HTTP/1.1 200"}] * 4


def test_request_in_flight_is_finished(serve, folder) -> None:
    server = serve("nginx", "--workers", "1", "--state-dir", str(folder))
    client = server.connect()
    keep_busy(server, client, seconds=0.7)
    assert "options" in change(folder, wakeup="herd")
    assert b"200 OK" in client.recv(4096)


def test_time_of_a_worker_that_is_killed_when_its_drain_is_over_stays_counted(serve, folder) -> None:
    server = serve("nginx", "--workers", "1", "--drain", "0.3", "--state-dir", str(folder))

    def busy_seconds() -> float:
        return server.metric("lab_loop_busy_seconds_total", worker="0")

    with closing(server.connect()) as client:
        client.sendall(b"GET /work?block=30s HTTP/1.1\r\nHost: x\r\n\r\n")
        wait_until(lambda: busy_seconds() > 1, what="a second at work")
        change(folder, backlog=50)
    killed = busy_seconds()
    server.get("/work?block=300ms")
    wait_until(lambda: busy_seconds() > killed + 0.2, what="the successor's time")


def test_changes_add_up(serve, folder) -> None:
    server = serve("nginx", "--workers", "2", "--state-dir", str(folder))
    change(folder, backlog="33")
    in_force = change(folder, wakeup="blocking")["options"]
    assert (in_force["backlog"], in_force["wakeup"]) == (33, "blocking")
    assert server.state()["options"] == in_force
    assert server.state()["listeners"][0]["limit"] == 33
    change(folder, wakeup="exclusive")  # the listener was made blocking, and must not stay so
    assert all(server.get("/").status_code == 200 for _ in range(20))


def test_store_follows_the_workers(serve, folder) -> None:
    server = serve("nodejs", "--state-dir", str(folder))
    assert server.metric("lab_worker_serving", worker="main") == 1
    change(folder, cluster=3)
    assert server.metric("lab_worker_serving", worker="main") == 0
    counts = {server.get("/").headers["X-Worker"]: plain_http.post(f"{server.url}/counters/a").text for _ in range(9)}
    assert len(counts) == 3
    assert server.get("/counters/a").text.strip() == "9"


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (b'{"set": {"workers": 0}}', "--workers 0: give a number from 1 to 256"),
        (b'{"set": {"workers": "many"}}', "'many' is not a whole number"),
        (b'{"set": {"wakeup": "never"}}', "give one of exclusive-rotating"),
        (b'{"set": {"port": 1}}', "cannot be changed while the server runs; these can: workers"),
        (b'{"set": {"colour": "red"}}', "there is no option 'colour'"),
        (b'{"set": {}}', "one line of JSON"),
        (b'{"get": 1}', "one line of JSON"),
        (b"GET / HTTP/1.1\r", "one line of JSON"),
        (b"x" * 20_000, "more than"),
    ],
)
def test_what_makes_no_sense_is_refused_and_changes_nothing(serve, folder, line, error) -> None:
    server = serve("nginx", "--workers", "2", "--state-dir", str(folder))
    before = server.state()
    assert error in say(folder, line + b"\n")["error"]
    assert [worker["pid"] for worker in server.state()["workers"]] == [worker["pid"] for worker in before["workers"]]


def test_second_change_at_a_time_is_refused(serve, folder) -> None:
    server = serve("nginx", "--workers", "1", "--state-dir", str(folder))
    keep_busy(server, server.connect(), seconds=1)
    with connect(folder) as early:
        first = threading.Thread(target=change, args=(folder,), kwargs={"workers": 2})
        first.start()
        assert b"draining" in early.recv(4096)
        first.join()
    assert len(server.state()["workers"]) == 2


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with disks.disk(tmp_path / "disk", 1 << 20) as folder:
        yield folder


PUT = b"PUT /kv/k HTTP/1.1\r\nHost: x\r\nContent-Length: 65536\r\n\r\n" + bytes(65536)


def test_full_disk_takes_changes_that_need_none_and_refuses_the_others(serve, small_disk) -> None:
    server = serve("nodejs", "--state-dir", str(small_disk))
    disks.fill(small_disk)
    assert change(small_disk, backlog=50)["options"]["backlog"] == 50
    assert server.state()["options"]["backlog"] == 50
    error = change(small_disk, cluster=2)["error"]  # processes share a store on the disk
    assert str(small_disk) in error
    assert "make room" in error
    assert server.state()["options"]["cluster"] == 0
    assert server.get("/").status_code == 200


@pytest.mark.parametrize("spoil", [disks.fill, disks.make_read_only])
def test_server_whose_disk_fails_serves_and_changes(serve, small_disk, spoil) -> None:
    server = serve("nginx", "--worker-kind", "process", "--workers", "2", "--state-dir", str(small_disk))
    spoil(small_disk)
    assert change(small_disk, workers=3, drain=5)["options"]["workers"] == 3
    assert len(server.state()["workers"]) == 3
    assert server.get("/").status_code == 200
    assert b" 503 " in server.ask(PUT).partition(b"\r\n")[0]
    server.signal(signal.SIGTERM)
    assert server.process.wait(10) == 0


def test_mutex_whose_lock_cannot_be_made_is_refused(serve, small_disk) -> None:
    server = serve("nginx", "--workers", "2", "--state-dir", str(small_disk))
    disks.make_read_only(small_disk)
    assert "Read-only" in change(small_disk, wakeup="mutex")["error"]
    assert server.state()["options"]["wakeup"] == "exclusive-rotating"
    assert server.get("/").status_code == 200


@pytest.mark.parametrize("kind", ["thread", "process"])
def test_change_that_finds_too_few_descriptors_leaves_the_old_options(serve, folder, kind) -> None:
    server = serve(
        "memcached", "--worker-kind", kind, "--workers", "1", "--state-dir", str(folder),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64)),
    )  # fmt: skip
    error = change(folder, workers=100)["error"]
    assert "ulimit -n" in error
    assert "old options" in error
    wait_until(lambda: server.metric("lab_worker_serving") == 1, what="one worker")
    assert server.state()["options"]["workers"] == 1
    assert server.get("/").status_code == 200
    assert change(folder, workers=2)["options"]["workers"] == 2


def test_socket_is_for_its_user_and_goes_with_the_server(serve, folder) -> None:
    server = serve("nginx", "--state-dir", str(folder))
    path = folder / "control.sock"
    assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0
    server.signal(signal.SIGTERM)
    server.process.wait(10)
    assert not path.exists()


def test_socket_of_a_killed_server_is_replaced(serve, folder) -> None:
    serve("nginx", "--state-dir", str(folder)).process.kill()
    server = serve("nginx", "--state-dir", str(folder))
    change(folder, workers=1)
    assert len(server.state()["workers"]) == 1


@pytest.mark.parametrize("model", ["nodejs", "memcached", "nginx"])
def test_changed_server_ends_as_any_other(serve, folder, model) -> None:
    server: Server = serve(model, "--workers", "2", "--state-dir", str(folder))
    change(folder, backlog=9)
    family = [server.pid, *server.descendants()]
    server.signal(signal.SIGTERM)
    assert server.process.wait(10) == 0
    wait_until(lambda: not any(map(alive, family)))
    with pytest.raises(ConnectionRefusedError):
        server.connect()
