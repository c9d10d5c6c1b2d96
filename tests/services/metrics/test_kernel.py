"""sock_diag and /proc/net/netstat against real sockets."""

import contextlib
import os
import socket
import time
from contextlib import ExitStack

import pytest
from support.servers import wait_until

from services.metrics import kernel
from services.metrics.kernel import Connections, dump, listeners, netstat, netstat_scope

LIMIT = 4
TCP_DEFER_ACCEPT = 9


@pytest.fixture
def stack():
    with ExitStack() as stack:
        yield stack


@pytest.fixture(params=["127.0.0.1", "::1"])
def listener(request, stack):
    family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
    listener = stack.enter_context(socket.socket(family))
    try:
        listener.bind((request.param, 0))
    except OSError:
        pytest.skip(f"{request.param} is not there")
    listener.listen(LIMIT)
    return listener


def port_of(listener):
    return listener.getsockname()[1]


def connect(stack, listener):
    return stack.enter_context(socket.create_connection(listener.getsockname()[:2], timeout=5))


def try_to_connect(stack, listener):
    client = stack.enter_context(socket.socket(listener.family))
    client.setblocking(False)
    client.connect_ex(listener.getsockname())
    return client


def fill(sender):
    """Send until the peer's window is closed and the send buffer is full."""
    sender.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while sender.send(bytes(65536)):
            pass


def test_listeners_are_found_by_port_and_inode(listener):
    (found,) = listeners(port_of(listener))
    assert found.inode == os.fstat(listener.fileno()).st_ino
    host = listener.getsockname()[0]
    assert found.address == (f"[{host}]" if ":" in host else host) + f":{port_of(listener)}"
    assert (found.queue, found.limit, found.drops) == (0, LIMIT, 0)


def test_listeners_with_reuseport_are_told_apart(stack):
    first = stack.enter_context(socket.socket())
    first.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    first.bind(("127.0.0.1", 0))
    second = stack.enter_context(socket.socket())
    second.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    second.bind(first.getsockname())
    first.listen(1)
    second.listen(2)
    found = {figures.inode: figures.limit for figures in listeners(port_of(first))}
    assert found == {os.fstat(first.fileno()).st_ino: 1, os.fstat(second.fileno()).st_ino: 2}


def test_listeners_of_a_free_port_are_none(listener):
    port = port_of(listener)
    listener.close()
    assert listeners(port) == []


def test_listener_queue_holds_one_more_than_its_limit_and_then_drops(stack, listener):
    for _ in range(LIMIT + 1):
        connect(stack, listener)
    wait_until(lambda: listeners(port_of(listener))[0].queue == LIMIT + 1)
    (full,) = listeners(port_of(listener))
    assert (full.queue, full.limit, full.drops) == (LIMIT + 1, LIMIT, 0)
    before = netstat(os.getpid())
    refused = [try_to_connect(stack, listener) for _ in range(3)]
    wait_until(lambda: listeners(port_of(listener))[0].drops >= len(refused))
    after = netstat(os.getpid())
    assert after["ListenOverflows"] - before["ListenOverflows"] >= len(refused)
    assert after["ListenDrops"] - before["ListenDrops"] >= len(refused)
    listener.accept()[0].close()
    assert listeners(port_of(listener))[0].queue <= LIMIT + 1


def test_connections_of_the_port_are_dumped_and_no_others(stack, listener):
    other = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    connect(stack, other)
    for _ in range(3):
        connect(stack, listener)
    found = list(dump(port_of(listener), kernel.OPEN_STATES, kernel.INFO))
    assert [sock.state for sock in found] == [kernel.ESTABLISHED] * 3
    assert len({sock.cookie for sock in found}) == 3


def test_connections_sum_bytes_that_nobody_read(stack, listener):
    for size in (100, 50):
        connect(stack, listener).sendall(bytes(size))
    connections = Connections(port_of(listener))
    wait_until(lambda: connections.read().receive_queue_bytes == 150)
    assert connections.read().send_queue_bytes == 0
    server = stack.enter_context(listener.accept()[0])
    assert len(server.recv(1000)) == 100
    assert connections.read().receive_queue_bytes == 50


def test_connections_count_half_open_ones(stack, listener):
    # With DEFER_ACCEPT the kernel ignores the ACK that ends the handshake until data comes.
    listener.setsockopt(socket.IPPROTO_TCP, TCP_DEFER_ACCEPT, 10)
    connections = Connections(port_of(listener))
    assert connections.read().half_open == 0
    clients = [connect(stack, listener) for _ in range(3)]
    assert connections.read().half_open == 3
    clients[0].sendall(b"data")
    wait_until(lambda: connections.read().half_open == 2)


def test_connections_limited_by_a_reader_asleep_count_the_time(stack, listener):
    connect(stack, listener)
    server = stack.enter_context(listener.accept()[0])
    connections = Connections(port_of(listener))
    assert connections.read().window_limited_seconds == 0
    before = time.monotonic()
    fill(server)
    wait_until(lambda: connections.read().window_limited_seconds > 0)
    first, after = connections.read(), time.monotonic()
    time.sleep(0.3)
    least, second, most = time.monotonic() - after, connections.read(), time.monotonic() - before
    assert first.send_queue_bytes > 0
    limited = second.window_limited_seconds - first.window_limited_seconds
    assert 0.9 * least - 0.01 <= limited  # two jiffies of HZ=250 at the least
    assert second.window_limited_seconds <= most + 0.01


def test_connections_when_they_close_take_nothing_back(stack, listener):
    client = connect(stack, listener)
    server = listener.accept()[0]
    connections = Connections(port_of(listener))
    fill(server)
    wait_until(lambda: connections.read().window_limited_seconds > 0.05)
    limited = connections.read().window_limited_seconds
    client.close()
    server.close()
    wait_until(lambda: connections.read().send_queue_bytes == 0)
    for _ in range(3):
        assert connections.read().window_limited_seconds >= limited
    assert not connections._window_limited._last


def test_connections_are_read_once_in_a_while(stack, listener):
    connections = Connections(port_of(listener))
    before = connections.figures()
    connect(stack, listener).sendall(b"data")
    wait_until(lambda: connections.read().receive_queue_bytes == 4)
    assert connections.figures() is before


def test_dump_of_many_connections_is_whole(stack):
    listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=1024))
    for _ in range(300):  # several netlink messages to a datagram, and several datagrams
        connect(stack, listener)
    found = list(dump(port_of(listener), kernel.OPEN_STATES, kernel.INFO))
    assert len({sock.cookie for sock in found}) == 300


def test_refusal_by_the_kernel_is_an_error():
    with pytest.raises(OSError, match="sock_diag"):
        list(kernel._ask(kernel.MESSAGE_HEADER.pack(16, 9999, kernel.NLM_F_REQUEST | kernel.NLM_F_DUMP, 1, 0)))


def test_netstat_has_every_counter_of_the_contract():
    assert tuple(netstat(os.getpid())) == kernel.NETCOUNTERS
    assert netstat(os.getpid())["DelayedACKs"] >= 0


def test_netstat_of_a_process_that_is_gone_is_0():
    assert set(netstat(2**22 + 1).values()) == {0}


def test_netstat_scope_is_what_the_maker_of_the_namespace_says(monkeypatch):
    monkeypatch.setenv("LAB_NETNS", "own")
    assert netstat_scope(os.getpid()) == "model"
    monkeypatch.setenv("LAB_NETNS", "host")
    assert netstat_scope(os.getpid()) == "host"


@pytest.mark.parametrize(("mine", "first", "scope"), [("net:[1]", "net:[1]", "host"), ("net:[2]", "net:[1]", "model")])
def test_netstat_scope_otherwise_compares_with_process_1(monkeypatch, mine, first, scope):
    monkeypatch.delenv("LAB_NETNS", raising=False)
    links = {"/proc/77/ns/net": mine, "/proc/1/ns/net": first}
    monkeypatch.setattr(os, "readlink", links.__getitem__)
    assert netstat_scope(77) == scope


def test_netstat_scope_in_doubt_is_the_host(monkeypatch):
    monkeypatch.delenv("LAB_NETNS", raising=False)
    assert netstat_scope(2**22 + 1) == "host"
