"""Bodies of requests: small ones are the protocol's, others go to memory and a file, and have a bound."""

from __future__ import annotations

import pickle

import pytest

from services.apps.spool import MEMORY_BYTES, Spool, spooler
from services.messages import Request

MOST = 4 * MEMORY_BYTES


@pytest.mark.parametrize(
    ("fields", "spools"),
    [
        ({}, False),
        ({b"content-length": b"%d" % MEMORY_BYTES}, False),
        ({b"content-length": b"0" * 5000}, False),
        ({b"content-length": b"%d" % (MEMORY_BYTES + 1)}, True),
        ({b"transfer-encoding": b"chunked"}, True),
    ],
)
def test_what_is_known_to_be_small_is_left_to_the_protocol(fields, spools):
    assert (spooler(MOST)(Request("POST", b"/", fields)) is not None) == spools


def test_body_is_read_from_its_beginning_in_memory_and_in_a_file():
    spool = Spool(MOST)
    held = []
    for _ in range(3):
        assert spool.take(b"x" * MEMORY_BYTES) == 0.0
        held.append(not spool._file._rolled)
    assert held == [True, False, False]
    assert len(spool.file().read()) == 3 * MEMORY_BYTES
    assert len(spool.file().read()) == 3 * MEMORY_BYTES


def test_body_travels_to_another_process_whole():
    spool = Spool(MOST)
    spool.take(b"body")
    request = pickle.loads(pickle.dumps(Request("POST", b"/", {}, b"", 4, reader=spool)))
    assert request.reader.file().read() == b"body"
    assert request.reader.max_bytes == MOST


def test_disk_without_room_is_noted_and_nothing_raised(monkeypatch):
    spool = Spool(MOST)

    def refuse(_piece: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(spool.file(), "write", refuse)
    spool.take(b"x")
    spool.take(b"y")
    assert spool.failed
    assert spool.file().read() == b""
