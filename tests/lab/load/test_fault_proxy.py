"""The proxy that makes trouble: what it cuts, what it repeats, and what it says it has seen."""

import asyncio

import pytest

from lab.load.fault_proxy import CUT, MAX_BODY_BYTES, REPEAT, Injector, Plan, read_message

POST = b'POST %b HTTP/1.1\r\nHost: lab\r\nIdempotency-Key: "%b"\r\nContent-Length: 0\r\n\r\n'
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
PATHS = {CUT: b"/counters/cut", REPEAT: b"/counters/repeat"}
"""Which fault a path meets is a matter of its checksum."""


def through(requests, *, cut=0.0, repeat=0.0, answer=OK):
    """What came back for each request, how often the server was asked, and what was seen."""

    async def run():
        asked = []

        async def serve(reader, writer):
            try:
                while True:
                    asked.append(await read_message(reader))
                    writer.write(answer)
            except asyncio.IncompleteReadError:
                writer.close()

        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            injector = Injector(Plan("127.0.0.1", port, "127.0.0.1", cut, repeat))
            async with await asyncio.start_server(injector.serve, "127.0.0.1", 0) as proxy:
                answers = [await ask(proxy.sockets[0].getsockname()[1], request) for request in requests]
                await asyncio.wait(asyncio.all_tasks() - {asyncio.current_task()})  # answered is not yet counted
        return answers, len(asked), injector.seen

    return asyncio.run(run())


async def ask(port, request):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    try:
        return await read_message(reader)
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    finally:
        writer.close()


def test_a_cut_request_has_its_effect_and_no_answer():
    answers, asked, seen = through([POST % (PATHS[CUT], b"k")], cut=1.0)
    (path,) = seen.paths.values()
    assert (answers, asked) == ([None], 1)
    assert (path.fault, path.requests, path.faults, path.applied) == (CUT, 1, 1, {'"k"': 1})


def test_a_repeated_request_is_asked_twice_and_answered_once():
    answers, asked, seen = through([POST % (PATHS[REPEAT], b"k")], repeat=1.0)
    (path,) = seen.paths.values()
    assert (answers, asked) == ([OK], 2)
    assert (path.fault, path.requests, path.faults, path.applied) == (REPEAT, 2, 1, {'"k"': 2})
    assert seen.seconds > 0


@pytest.mark.parametrize("fault", [CUT, REPEAT])
def test_without_trouble_it_only_passes_on(fault):
    answers, asked, seen = through([POST % (PATHS[fault], key) for key in (b"a", b"b")])
    assert (answers, asked) == ([OK, OK], 2)
    assert [path.applied for path in seen.paths.values()] == [{'"a"': 1, '"b"': 1}]


def test_a_request_without_a_key_meets_no_fault_and_is_not_counted():
    answers, _, seen = through([b"GET / HTTP/1.1\r\nHost: lab\r\n\r\n"], cut=1.0, repeat=1.0)
    assert answers == [OK]
    assert not seen.paths


def test_an_operation_that_was_refused_is_not_applied():
    _, _, seen = through([POST % (PATHS[CUT], b"k")], answer=OK.replace(b"200", b"503"))
    assert [path.applied for path in seen.paths.values()] == [{}]


def test_a_body_without_bounds_is_not_waited_for():
    endless = (POST % (PATHS[CUT], b"k")).replace(b"Length: 0", b"Length: %d" % (MAX_BODY_BYTES + 1))
    answers, asked, _ = through([endless, POST % (PATHS[CUT], b"k")])
    assert (answers, asked) == ([None, OK], 1)


def test_a_head_without_end_ends_its_connection_only():
    answers, _, _ = through([b"X" * 200_000, POST % (PATHS[CUT], b"k")])
    assert answers == [None, OK]
