"""Our own load generator against real sockets: what it counts, and that it says when it was late."""

import asyncio
import json
import subprocess
import sys
import time
from contextlib import asynccontextmanager

import pytest

from lab.load.generator import generate
from lab.load.plan import Plan, Stream, read_plan
from loadtests.histogram import Histogram

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Worker: 3\r\n\r\nok"


@asynccontextmanager
async def serving(pause=0.0, answer=ANSWER, stalls=()):
    """A server that answers every request after `pause`; it stands still for `stalls` (begin, seconds)."""
    heads, connections = [], 0

    async def serve(reader, writer):
        nonlocal connections
        connections += 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                heads.append(head)
                await asyncio.sleep(pause)
                for begin, seconds in stalls:
                    now = asyncio.get_running_loop().time() - started
                    if begin <= now < begin + seconds:
                        await asyncio.sleep(begin + seconds - now)
                writer.write(answer)
                if b"close" in head or not answer:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    started = asyncio.get_running_loop().time()
    async with server:
        yield server.sockets[0].getsockname()[1], heads, lambda: connections


def measure(*streams, seconds=1.0, warm_up_seconds=0.0, connect_gap_seconds=0.0, **server):
    async def both():
        async with serving(**server) as (port, heads, connections):
            plan = Plan("127.0.0.1", port, streams, seconds, warm_up_seconds, connect_gap_seconds)
            return await generate(plan), heads, connections()

    return asyncio.run(both())


def test_closed_loop_counts_what_was_answered_and_by_whom():
    document, heads, connections = measure(Stream(connections=4, think_seconds=0.01))
    (result,) = document["streams"]
    assert result["requests"] == result["workers"]["3"] == result["statuses"]["200"] > 20
    assert len(heads) >= result["requests"]
    assert connections == 4
    assert Histogram.from_json(result["intended"]).count == result["requests"]
    assert result["errors"] == {}


def test_streams_connect_one_after_another_where_a_gap_is_given():
    streams = [Stream(str(number), rate=100, poisson=False) for number in range(3)]
    document, _, connections = measure(*streams, seconds=0.5, connect_gap_seconds=0.1)
    assert connections == 3
    # The first request of a stream waits for its connect.
    assert all(result["max_seconds"] >= 0.1 * number for number, result in enumerate(document["streams"]))


def test_open_loop_keeps_its_rate_whatever_the_server_does():
    document, _, _ = measure(Stream(rate=200, poisson=False, connections=50), seconds=1.0, pause=0.1)
    (result,) = document["streams"]
    assert result["requests"] == pytest.approx(200, abs=2)
    assert result["mean_seconds"] >= 0.1


def test_generator_that_is_late_still_sends_what_arrived_before_the_end(model):
    port = model("nodejs").port
    steady = Stream(path="/work?block=50ms", rate=10, poisson=False)

    async def late():
        # Stalls while a request is out, and until after the end.
        asyncio.get_running_loop().call_later(0.12, time.sleep, 0.6)
        return await generate(Plan("127.0.0.1", port, (steady,), 0.4, 0.0))

    (result,) = asyncio.run(late())["streams"]
    assert result["requests"] >= 4
    assert result["unanswered"] == 0


def test_time_that_a_request_waits_for_its_turn_is_counted():
    stall = {"stalls": ((0.5, 0.4),)}
    document, _, _ = measure(Stream(rate=100, poisson=False), seconds=1.5, **stall)
    (result,) = document["streams"]
    corrected, uncorrected = (Histogram.from_json(result[name]).quantile(0.9) for name in ("intended", "sent"))
    assert corrected > 0.1
    assert uncorrected < 0.1  # one request met the stall; forty were meant to


def test_connection_a_request_says_so_and_connects_anew():
    document, heads, connections = measure(Stream(keep_alive=False, connections=2, think_seconds=0.01))
    (result,) = document["streams"]
    assert connections >= result["requests"] > 5
    assert all(b"Connection: close" in head for head in heads)


def test_server_that_hangs_up_is_an_error_by_name():
    document, _, _ = measure(Stream(), answer=b"")
    (result,) = document["streams"]
    assert result["requests"] == 0
    assert sum(result["errors"].values()) > 0


def test_nobody_there_is_an_error_by_name():
    document = asyncio.run(generate(Plan("127.0.0.1", 1, (Stream(keep_alive=False),), 1.0, 0)))
    assert document["streams"][0]["errors"].keys() == {"connection refused"}
    assert document["littles_law"] is None


def test_littles_law_holds():
    document, _, _ = measure(Stream(connections=8), seconds=3.0, pause=0.02)
    assert document["littles_law"] == pytest.approx(1, abs=0.25)


def test_throughput_is_what_is_answered_and_not_what_arrives():
    document, _, _ = measure(Stream(rate=100, poisson=False), seconds=0.5, pause=0.05)
    (result,) = document["streams"]
    assert result["requests"] == pytest.approx(50, abs=2)
    assert result["completed"] <= 11  # of 50 ms each


def test_waiting_for_a_last_answer_does_not_make_the_generator_look_idle():
    cpu, begun = time.process_time(), time.monotonic()
    document, _, _ = measure(Stream(connections=4), stalls=((0.9, 1.6),))
    share = (time.process_time() - cpu) / (time.monotonic() - begun)
    assert document["cpu"] > 1.5 * share


def test_same_seed_draws_the_same_arrivals():
    plan = {"host": "h", "port": 1, "seconds": 1, "streams": [{"rate": 3.0}]}
    assert read_plan(json.dumps(plan)) == Plan("h", 1, (Stream(rate=3.0),), 1)


def test_program_prints_one_document():
    plan = {"host": "127.0.0.1", "port": 1, "seconds": 1, "warm_up_seconds": 0, "streams": [{"keep_alive": False}]}
    command = [sys.executable, "-m", "lab.load.generator", json.dumps(plan)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    assert json.loads(done.stdout)["streams"][0]["errors"]
