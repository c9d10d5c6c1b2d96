"""Feeds the protocols broken inputs: valid messages of templates, mutated, each whole and in random pieces.

Of any input it must hold: nothing raises; pieces give the same messages as the whole; every message can be responded
to; an input takes no more than a second of processor time; and memory does not grow with the number of inputs.
`make fuzz` feeds a million, and `test_fuzz.py` some thousands. An input depends on seed and number only.

Mutations of templates, and not those of atheris (libFuzzer): measured, that one feeds 5,500 small inputs a second without
any check, most of which no parser reads further than the first line, and its own corpus hides growth of memory.
"""

from __future__ import annotations

import re
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from random import Random

import psutil

from services.messages import BodyPiece, Command, Message, Messages, Protocol, Request, Response
from services.protocols.http1 import CommonHead, Http1
from services.protocols.http1_parser import RequestParser
from services.protocols.memcache_text import MemcacheText

MAX_INPUT_BYTES = 24 * 1024
"""Below the bounds of a head, which say how much an unfinished one may have, and so depend on the pieces."""
MAX_PROCESSOR_SECONDS = 1.0
"""For one input: the processor's, which a busy machine does not stretch."""
MAX_GROWTH_BYTES = 20 * 1024 * 1024
WARM_UP = 10
"""The part of the inputs, a tenth, after which memory is compared with."""
MAX_SHRINKS = 3000
FAILURES = Path(".lab/fuzz")

Pieces = list[bytes]

HEAD = b"GET /kv/a?b=c HTTP/1.1\r\nHost: x\r\n"
HTTP_TEMPLATES = [
    HEAD + b"\r\n",
    HEAD + b"Connection: keep-alive\r\nUser-Agent: a/1 (b)\r\nAccept: */*\r\nCookie: a=b; c=d\r\n\r\n",
    b"HEAD /counters/a HTTP/1.1\r\nHost: 127.0.0.1:80\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: x\r\nX-Two: 1\r\nx-two: 2 \t\r\n\r\n",
    b"GET http://x/a HTTP/1.1\r\nHost: y\r\n\r\n",
    b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    b"GET / HTTP/1.0\r\n\r\n",
    b"DELETE /kv/a HTTP/1.1\r\nHost: [::1]:80\r\nConnection: close\r\n\r\n",
    b"PUT /kv/a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello",
    b"PUT /kv/a HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\nab",
    b"POST /sink HTTP/1.1\r\nHost: x\r\nContent-Length: 12\r\n\r\nhello, world",
    b"POST /sink HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n",
    b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nde\r\n0\r\nHost: trailer\r\nX: 1\r\n\r\n",
    b"PATCH /u HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: h2c\r\nContent-Length: 3\r\n\r\nabc",
    b"POST /u HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: h2c\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\r\n",
]
HTTP_WORDS = [
    b"Host: x\r\n", b"Host:", b"Content-Length: 5\r\n", b"Content-Length: 0\r\n", b"Transfer-Encoding: chunked\r\n",
    b"Expect: 100-continue\r\n", b"Connection: close\r\n", b"Connection: upgrade\r\nUpgrade: x\r\n", b"\r\n", b"\n", b"\r",
    b"\0", b" ", b":", b",", b"\t", b" folded\r\n", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/1.2", b"HTTP/2.0", b"HEAD ", b"BREW ",
    b"/sink", b"http://", b"*", b"0\r\n\r\n", b"\xff", b"a: b\r\n",
]  # fmt: skip

KEYS = b" ".join(b"key-%d" % number for number in range(400))
MEMCACHE_TEMPLATES = [
    b"get a\r\n", b"gets a b\tc d\r\n", b"gat 100 a b\r\n", b"gats -1 a\r\n", b"get " + KEYS[:300] + b"\r\n",
    b"get " + KEYS + b"\r\n", b"gats 5 " + KEYS + b"\r\n",
    b"set a 1 0 5\r\nhello\r\n", b"set a 0 0 3 noreply\r\n\r\nx\r\n", b"cas a 0 0 1 7\r\nx\r\n", b"add b 0 100 0\r\n\r\n",
    b"append a 0 0 12\r\nhello, world\r\n", b"prepend a 0 0 2\r\nhi\r\n", b"replace a 0 0 2 noreply\r\nhi\r\n",
    b"set a 0 0 1048577\r\nx", b"set a 0 0 1048577 noreply\r\n" + b"x" * 500,
    b"incr n 1\r\n", b"decr n 18446744073709551615 noreply\r\n", b"delete a\r\n", b"delete a 0 noreply\r\n",
    b"touch a 100\r\n", b"flush_all\r\n", b"flush_all 10 noreply\r\n", b"verbosity 1\r\n", b"version\r\n", b"quit\r\n",
    b"stats\r\n", b"stats items\r\n", b"slabs automove ratio 0.8\r\n", b"slabs reassign 1 2\r\n",
    b"mg a t f v c k q O7\r\n", b"mg YQ== b v N30 R20 T5\r\n", b"ms a 5 T90 F1 I C4\r\nhello\r\n", b"ms a 2 MA b\r\nhi\r\n",
    b"ms a 1048577 q\r\nx", b"ms a 3 Mx\r\nabc\r\n", b"md a q I T3 x\r\n", b"ma n N0 J5 D2 MI t v\r\n", b"me a\r\n",
    b"me YQ== b\r\n", b"mn\r\n", b"GET / HTTP/1.1\r\n", b"\r\n",
]  # fmt: skip
MEMCACHE_WORDS = [
    b"\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b"noreply", b" noreply\r\n", b"k" * 250, b" " + b"k" * 251 + b" ", b"get ",
    b"gat 1 ", b"set a 0 0 3\r\n", b"ms a 3 ", b"mg a ", b"-1", b"b", b"S", b"MA", b"O" + b"o" * 40, b"HTTP/", b"\xff",
    b" a" * 30,
]  # fmt: skip

NUMBERS = [
    b"0", b"1", b"-1", b"2", b"+3", b"5", b"16", b"00005", b"0x5", b"255", b"1.5", b"250", b"1048576", b"1048577", b"",
    b"2147483645", b"2147483648", b"4294967295", b"4294967296", b"18446744073709551615", b"18446744073709551616", b"9" * 30,
    b"ffffffff",
]  # fmt: skip
NUMBER = re.compile(rb"\d+")


# Inputs.


def make_input(random: Random, templates: Pieces, words: Pieces) -> bytes:
    """Return a few valid messages, one behind the other, and mutated some times."""
    data = b"".join(random.choices(templates, k=random.choice((1, 1, 1, 2, 3, 6))))
    for _ in range(random.choice((0, 1, 1, 2, 3, 8))):
        data = random.choice(MUTATIONS)(random, data, words)[:MAX_INPUT_BYTES]
    return data


def cut(random: Random, data: bytes) -> Pieces:
    """Return `data` in pieces: a few, or now and then, where it is short, single bytes."""
    if len(data) < 300 and random.random() < 0.1:
        return [data[place : place + 1] for place in range(len(data))]
    places = sorted(random.randint(0, len(data)) for _ in range(random.choice((1, 1, 2, 3, 8, 20))))
    return [data[start:end] for start, end in pairwise([0, *places, len(data)])]


def _slice(random: Random, data: bytes) -> tuple[int, int]:
    start = random.randint(0, len(data))
    return start, min(len(data), start + random.choice((1, 2, 4, 20, 100, 3000)))


def _flip(random: Random, data: bytes, _words: Pieces) -> bytes:
    if not data:
        return data
    place = random.randrange(len(data))
    return data[:place] + bytes([data[place] ^ 1 << random.randrange(8)]) + data[place + 1 :]


def _delete(random: Random, data: bytes, _words: Pieces) -> bytes:
    start, end = _slice(random, data)
    return data[:start] + data[end:]


def _duplicate(random: Random, data: bytes, _words: Pieces) -> bytes:
    start, end = _slice(random, data)
    return data[:end] + data[start:end] * random.choice((1, 1, 1, 1, 1, 2, 2, 50, 50, 2000)) + data[end:]


def _splice(random: Random, data: bytes, _words: Pieces) -> bytes:
    start, end = _slice(random, data)
    place = random.randint(0, len(data))
    return data[:place] + data[start:end] + data[place:]


def _insert(random: Random, data: bytes, words: Pieces) -> bytes:
    place = random.randint(0, len(data))
    return data[:place] + random.choice((*words, random.randbytes(random.choice((1, 2, 8))))) + data[place:]


def _change_number(random: Random, data: bytes, _words: Pieces) -> bytes:
    found = list(NUMBER.finditer(data[:4000]))
    if not found:
        return data
    number = random.choice(found)
    return data[: number.start()] + random.choice(NUMBERS) + data[number.end() :]


def _truncate(random: Random, data: bytes, _words: Pieces) -> bytes:
    return data[: random.randint(0, len(data))]


MUTATIONS: list[Callable[[Random, bytes, Pieces], bytes]] = [
    _flip, _flip, _delete, _duplicate, _splice, _insert, _insert, _change_number, _change_number, _truncate,
]  # fmt: skip


# What must hold of any of them.


class Reader:
    """Takes a body in pieces; all are equal, so that messages can be compared."""

    most_bytes = max_bytes = 1 << 16

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Reader)

    __hash__ = None  # type: ignore[assignment]

    def take(self, piece: bytes) -> float:
        return 0.0


def open_body(request: Request) -> Reader | None:
    return Reader() if request.target.startswith(b"/sink") else None


REFUSAL = Response("400")
"""Of anything that is not HTTP: of two faults either may be found first, and a method that is cut short is 400, not 501."""

COMMON = CommonHead(b"fuzz", b"0")
"""One for all inputs, so that what one leaves in a parser would spoil the next."""


def read(protocol: Protocol, pieces: Pieces) -> Messages:
    """Feed `pieces`, respond to all that comes out, and return it."""
    messages: Messages = []
    for piece in pieces:
        received = protocol.receive(piece)
        for message in received:
            _respond(protocol, message)
        messages += received
        assert protocol.phase in ("idle", "head", "body"), protocol.phase
    return messages


def _respond(protocol: Protocol, message: Message | BodyPiece | Response) -> None:
    if isinstance(message, Response):
        assert isinstance(protocol.encode(None, message), bytes)
    elif not isinstance(message, BodyPiece):
        assert isinstance(protocol.encode(message, Response("200", b"x")), bytes)


def check_http(pieces: Pieces) -> None:
    """Hold that HTTP reads the same in pieces and whole, and that its two readers agree."""
    data = b"".join(pieces)
    whole = _comparable(read(Http1(COMMON, open_body), [data]))
    parts = _comparable(read(Http1(COMMON, open_body), pieces))
    assert parts == whole, (parts, whole)
    plain = COMMON.plain.read(data)
    if plain is not None:
        parser = RequestParser()
        parser.open_body = open_body
        any_form = parser.receive(data)
        assert _comparable([plain]) == _comparable(any_form), (plain, any_form)
        assert (parser.closing, parser.phase) == (not plain.keep_alive, "idle")


def _comparable(messages: Messages) -> Messages:
    joined: Messages = []
    for message in messages:
        if isinstance(message, Request):
            assert isinstance(message.headers, dict)  # and from now on its `fields`
        if isinstance(message, BodyPiece) and joined and isinstance(joined[-1], BodyPiece):
            message = BodyPiece(message.reader, joined.pop().data + message.data)
        refused = isinstance(message, Response) and message.code in ("400", "501")
        joined.append(REFUSAL if refused else message)
    return joined


def check_memcache(pieces: Pieces) -> None:
    """Hold that memcached's text protocol reads the same in pieces and whole."""
    whole = list(_joined(read(MemcacheText(), [b"".join(pieces)])))
    parts = list(_joined(read(MemcacheText(), pieces)))
    assert parts == whole, (parts, whole)


def _joined(messages: Messages) -> Iterator[Message | BodyPiece | Response]:
    """Make one command of a get's batches; without those before an error, which a get read whole does not execute."""
    keys: tuple[bytes, ...] = ()
    for message in messages:
        if isinstance(message, Command) and message.name in ("get", "gets", "gat", "gats"):
            keys += message.keys
            if message.partial:
                continue
            message = Command(message.name, keys, exptime=message.exptime)
        keys = ()
        yield message


# The run.


@dataclass(frozen=True)
class Target:
    """A protocol: its check, its valid messages, and words that mean something to it."""

    check: Callable[[Pieces], None]
    templates: Pieces
    words: Pieces


TARGETS = {
    "http1": Target(check_http, HTTP_TEMPLATES, HTTP_WORDS),
    "memcache": Target(check_memcache, MEMCACHE_TEMPLATES, MEMCACHE_WORDS),
}


class FailureError(Exception):
    """An input that breaks a protocol, shrunk, or growth of memory; the text says all."""


def fuzz(inputs: int, seed: int, report: Callable[[int], None] = lambda _number: None) -> int:
    """Feed that many inputs, the protocols in turn; return by how many bytes memory grew. Raises FailureError."""
    names = list(TARGETS)
    process, before, peak = psutil.Process(), 0, 0
    signal.signal(signal.SIGVTALRM, _time_is_up)
    for number in range(inputs):
        name = names[number % len(names)]
        random = Random(f"{seed} {number}")
        pieces = cut(random, make_input(random, TARGETS[name].templates, TARGETS[name].words))
        if error := error_of(TARGETS[name].check, pieces):
            raise FailureError(describe(name, f"input {number} of seed {seed}", pieces, error))
        if number == inputs // WARM_UP:
            before = process.memory_info().rss
        if number % 1000 == 999:
            peak = max(peak, process.memory_info().rss)
            report(number + 1)
    growth = max(0, peak - before)
    if growth > MAX_GROWTH_BYTES:
        raise FailureError(
            f"memory grew by {growth:,} bytes since a tenth of the inputs: look for what is kept of each"
        )
    return growth


def error_of(check: Callable[[Pieces], None], pieces: Pieces) -> BaseException | None:
    """Return what `check` raises, TimeoutError where it takes too long; None when all is well."""
    signal.setitimer(signal.ITIMER_VIRTUAL, MAX_PROCESSOR_SECONDS)
    try:
        check(pieces)
    except Exception as error:  # noqa: BLE001  # whatever it is, it is the finding
        return error
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    return None


def _time_is_up(_number: int, _frame: object) -> None:
    raise TimeoutError(f"hang: more than {MAX_PROCESSOR_SECONDS} s of processor time")


def describe(name: str, which: str, pieces: Pieces, error: BaseException) -> str:
    """Return a report of a failure, and save it: the shrunk pieces, as Python reads them, and the traceback."""
    check = TARGETS[name].check
    small = shrink(lambda candidate: type(error_of(check, candidate)) is type(error), pieces)
    reason = "".join(traceback.format_exception(error_of(check, small) or error))
    FAILURES.mkdir(parents=True, exist_ok=True)
    path = FAILURES / f"{name}.txt"
    text = f"{name}, {which}:\npieces = {small!r}\n\n{reason}"
    path.write_text(text)
    return f"{text}\nSaved as {path}. Make a test of the pieces, then mend the protocol."


def shrink(fails: Callable[[Pieces], bool], pieces: Pieces) -> Pieces:
    """Leave out bytes and cuts as long as it fails without them."""
    for _ in range(MAX_SHRINKS):
        smaller = next((candidate for candidate in _smaller(pieces) if fails(candidate)), None)
        if smaller is None:
            break
        pieces = smaller
    return pieces


def _smaller(pieces: Pieces) -> Iterator[Pieces]:
    for place in range(len(pieces)):
        yield pieces[:place] + pieces[place + 1 :]
    for place in range(len(pieces) - 1):
        yield [*pieces[:place], pieces[place] + pieces[place + 1], *pieces[place + 2 :]]
    for place, piece in enumerate(pieces):
        size = len(piece) // 2
        while size:
            for start in range(0, len(piece), size):
                yield [*pieces[:place], piece[:start] + piece[start + size :], *pieces[place + 1 :]]
            size //= 2


def main() -> None:
    """Feed `inputs` (and from `seed`, else from the time), and show how far it is."""
    inputs = int(sys.argv[1])
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else int(time.time())
    started = time.monotonic()

    def report(number: int) -> None:
        if number % max(1000, inputs // 100) < 1000:
            print(f"{number:,} inputs, {number / (time.monotonic() - started):,.0f} a second", flush=True)

    try:
        growth = fuzz(inputs, seed, report)
    except FailureError as failure:
        sys.exit(str(failure))
    seconds = time.monotonic() - started
    print(f"{inputs:,} inputs of seed {seed} in {seconds:,.0f} s; memory grew by {growth / 1e6:.1f} MB at most")


if __name__ == "__main__":
    main()
