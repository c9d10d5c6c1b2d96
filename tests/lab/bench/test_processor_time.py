"""Prepared requests on the wire, and processor time a request out of two readings."""

from __future__ import annotations

import contextlib
import socket
import threading
from dataclasses import replace

import pytest
from support.tools import require_tool

from lab.bench import processor_time
from lab.bench.servers import BenchError, Cores
from lab.load import wrk
from lab.peers.process import Peer

RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
CORES = Cores(0, 1)


class Recorder:
    """An HTTP server that keeps the requests it is sent."""

    def __init__(self):
        self.requests = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self):
        # wrk's first connection is to try the address only.
        while not self.requests:
            connection, _ = self.listener.accept()
            self.read(connection)

    def read(self, connection):
        with connection, contextlib.suppress(ConnectionResetError):
            received = b""
            while data := connection.recv(65536):
                *whole, received = (received + data).split(b"\r\n\r\n")
                self.requests += whole
                connection.sendall(RESPONSE * len(whole))


def sent(count):
    """Requests that wrk sends on one connection in one load, and wrk's exit code."""
    require_tool("wrk")
    server = Recorder()
    with server.listener, processor_time.Counters() as counters:
        script = (str(processor_time.SCRIPT), counters.path, "1000", str(count))
        url = f"http://127.0.0.1:{server.port}/"
        with wrk.started(url, 1, cpu=None, connections=1, script=script) as process:
            counters.wait(process)
            output, _ = process.communicate(timeout=30)
        server.thread.join(30)
        total = counters.sent
    return server.requests, process.returncode, output, total


def test_no_request_comes_twice_and_each_has_its_number_in_one_of_seven_fields():
    requests, code, _, total = sent(100_000)
    heads = [request.decode().split("\r\n") for request in requests]
    assert code == 0
    assert len(set(requests)) == len(requests) > 100
    assert abs(total - len(requests)) <= 1
    assert {len(head) for head in heads} == {8}
    varied = [[place for place in range(1, 8) if "00000000" not in head[place]] for head in heads[:21]]
    assert {len(places) for places in varied} == {1}
    assert {places[0] for places in varied} == set(range(1, 8))


def test_requests_that_run_out_end_the_load_with_an_error():
    requests, code, output, _ = sent(20)
    assert code != 0
    assert "20 requests prepared were not enough" in output
    assert len(set(requests)) == len(requests) <= 20


def test_repeated_request_is_wrks_own():
    requests, code, _, total = sent(0)
    assert code == 0
    assert {request.split(b"\r\n")[0] for request in requests} == {b"GET / HTTP/1.1"}
    assert len(requests) > 100
    assert abs(total - len(requests)) <= 1


def test_figures_are_those_between_the_two_readings():
    before = processor_time.Reading(10.0, 3.0, 1.0, 5.0, 1000)
    after = processor_time.Reading(12.0, 4.9, 1.1, 6.0, 101_000)
    load = processor_time._figures(before, after, wrk.WrkResult(150_000, 1.0, 0.5, 2.0, 0))
    figures = (load.requests_per_second, load.cpu_us_per_request, load.admin_cpu_us_per_request)
    assert figures == pytest.approx((50_000, 19.0, 1.0))
    assert (load.busy_share, load.generator_share, load.p99_ms) == pytest.approx((0.95, 0.5, 2.0))


@pytest.fixture
def peer(tmp_path):
    return Peer("real-nginx", 1, 1, tmp_path)


LOAD = processor_time.Load(1000.0, 1.0, 2.0, 10.0, 0.0, 0.98, 0.5)


@pytest.mark.parametrize(
    ("shares", "kept", "said"), [((0.96,), 0.96, 0), ((0.5, 0.97), 0.97, 1), ((0.5, 0.9, 0.7), 0.9, 3)]
)
def test_load_is_repeated_until_the_core_is_busy_but_not_for_ever(peer, shares, kept, said):
    loads = iter([replace(LOAD, busy_share=share) for share in shares])
    messages = []
    assert processor_time._until_busy(peer, lambda: next(loads), messages.append).busy_share == kept
    assert len(messages) == said
    assert list(loads) == []


@pytest.mark.parametrize(("generator", "cause"), [(0.97, "wrk needed all of its own"), (0.6, "does other work run")])
def test_message_names_the_cause(peer, generator, cause):
    messages = []
    loads = iter([replace(LOAD, busy_share=0.9, generator_share=generator), LOAD])
    processor_time._until_busy(peer, lambda: next(loads), messages.append)
    assert cause in messages[0]
    assert "measured again" in messages[0]


def test_supply_gives_no_number_twice_and_grows(peer, monkeypatch):
    asked = []

    def once(running, seconds, cores, first, count):
        asked.append((first, count))
        if len(asked) == 1:
            raise processor_time.NotEnoughError
        return LOAD

    monkeypatch.setattr(processor_time, "once", once)
    supply = processor_time.Supply(1000.0, 1.0)
    supply.load(peer, 1.0, CORES)
    supply.load(peer, 1.0, CORES)
    assert asked == [(0, 100_000), (100_000, 400_000), (500_000, 400_000)]


def test_load_that_needs_too_many_requests_says_to_make_it_shorter():
    with pytest.raises(BenchError, match="give fewer --seconds"):
        processor_time.Supply(100_000.0, 60.0)
