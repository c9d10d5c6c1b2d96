"""The store that saves itself by a fork: its snapshot is of the moment of the fork, unless the mapping is shared."""

import time

import pytest

from lab.fidelity.forking_store import FLAGS, OK, Server

PAGES = 400


def wait_until_saved(server):
    deadline = time.monotonic() + 20
    while b"in_progress:1" in server.respond(b"INFO persistence"):
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize(("sharing", "value"), [("private", b"old"), ("shared", b"new")])
def test_value_that_is_written_while_it_saves(tmp_path, sharing, value):
    server = Server(FLAGS[sharing], tmp_path / "snapshot")
    assert server.respond(b"DEBUG POPULATE %d page 4000" % PAGES) == OK
    assert server.respond(b"BGSAVE").startswith(b"+")
    last = b"page:%d" % (PAGES - 1)
    server.respond(b"SETRANGE %b 0 new" % last)
    assert server.respond(b"GETRANGE %b 0 2" % last) == b"$3\r\nnew\r\n"
    wait_until_saved(server)
    assert server.respond(b"DEBUG RELOAD NOSAVE") == OK
    assert server.respond(b"GETRANGE %b 0 2" % last) == b"$3\r\n%b\r\n" % value
