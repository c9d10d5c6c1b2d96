"""Owners of connections, seen from outside: by epoll for loops, by descriptor for processes that block."""

import os
import select
import socket
import threading
import time
from contextlib import ExitStack

import pytest

from lab.peers import owner


@pytest.fixture
def served():
    """A listener, a client and the server's end of their connection."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        client = stack.enter_context(socket.create_connection(listener.getsockname()))
        yield listener.getsockname()[1], client, stack.enter_context(listener.accept()[0])


def test_loop_that_watches_a_connection_owns_it(served):
    port, client, server = served
    with select.epoll() as mine, select.epoll() as neighbour:
        mine.register(server, select.EPOLLIN)
        found = owner.Owners().find(port, [os.getpid()])
        assert found == {client.getsockname()[1]: owner.Owner(os.getpid(), mine.fileno())}
        assert neighbour.fileno() in owner.epolls(os.getpid())


def test_duplicate_of_an_epoll_is_the_same_loop(served):
    port, client, server = served
    with select.epoll() as mine:
        mine.register(server, select.EPOLLIN)
        duplicate = os.dup(mine.fileno())
        assert owner.Owners().find(port, [os.getpid()]) == {
            client.getsockname()[1]: owner.Owner(os.getpid(), mine.fileno())
        }
        os.close(duplicate)


def test_connection_that_two_loops_watch_has_no_owner(served):
    port, client, server = served
    with select.epoll() as one, select.epoll() as other:
        one.register(server, select.EPOLLIN)
        other.register(server, select.EPOLLIN)
        other.register(client, select.EPOLLIN)
        assert owner.Owners().find(port, [os.getpid()]) == {}


def test_process_that_has_the_descriptor_owns_it(served):
    port, client, _ = served
    assert owner.Owners(owner.DESCRIPTOR).find(port, [os.getpid()]) == {
        client.getsockname()[1]: owner.Owner(os.getpid())
    }


def test_connection_that_is_only_queued_has_no_owner():
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()):
        assert owner.inodes(listener.getsockname()[1]) == {}


def test_process_that_is_gone_has_nothing():
    assert owner.epolls(2**22 + 1) == []
    assert owner.watched(2**22 + 1, 3) == []


def test_thread_that_waits_on_an_epoll_is_found():
    with select.epoll() as epoll, select.epoll() as idle:
        thread = threading.Thread(target=epoll.poll, args=(20,))
        thread.start()
        deadline = time.monotonic() + 5
        mine = owner.Owner(os.getpid(), epoll.fileno())
        while (found := owner.thread_of(mine)) is None and time.monotonic() < deadline:
            time.sleep(0.01)
        assert found == thread.native_id
        assert owner.thread_of(owner.Owner(os.getpid(), idle.fileno())) is None
        wake, other = os.pipe()
        os.write(other, b"!")
        epoll.register(wake, select.EPOLLIN)
        thread.join(5)
        os.close(wake)
        os.close(other)
