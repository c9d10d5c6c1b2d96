"""Times that the kernel keeps. Each wait is compared with the test's own clock before and after, not with a constant."""

import socket
import struct
import time

import pytest
from support.servers import wait_until

from services.net import timestamps

TOLERANCE_NS = 50_000_000


@pytest.fixture
def listener():
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, timestamps.SO_TIMESTAMPNS, 1)
        listener.bind(("127.0.0.1", 0))
        listener.listen(8)
        wait_until(lambda: is_stamped(listener), what="a timestamp")
        yield listener


def is_stamped(listener):
    """Return whether packets carry times by now: the kernel begins a little after the first socket asked for it."""
    with socket.create_connection(listener.getsockname()) as client, listener.accept()[0] as server:
        client.sendall(b"request")
        return timestamps.kernel_wait_ns(server.recvmsg(100, 100)[1], time.time_ns()) is not None


def test_kernel_wait_is_the_time_in_the_receive_queue(listener):
    with socket.create_connection(listener.getsockname()) as client, listener.accept()[0] as server:
        before = time.time_ns()
        client.sendall(b"request")
        after = time.time_ns()
        time.sleep(0.08)
        least = time.time_ns() - after
        _, ancillary, _, _ = server.recvmsg(100, 100)
        now = time.time_ns()
        waited = timestamps.kernel_wait_ns(ancillary, now)
    assert least <= waited <= now - before


def test_kernel_wait_counts_from_the_last_segment(listener):
    with socket.create_connection(listener.getsockname()) as client, listener.accept()[0] as server:
        client.sendall(b"first half")
        time.sleep(0.08)
        before = time.time_ns()
        client.sendall(b"second half")
        data, ancillary, _, _ = server.recvmsg(100, 100)
        now = time.time_ns()
    assert data == b"first halfsecond half"
    assert timestamps.kernel_wait_ns(ancillary, now) <= now - before


def test_kernel_wait_without_a_timestamp_is_unknown():
    assert timestamps.kernel_wait_ns([], time.time_ns()) is None
    assert timestamps.kernel_wait_ns([(socket.SOL_SOCKET, socket.SCM_RIGHTS, bytes(16))], time.time_ns()) is None


def test_kernel_wait_when_the_clock_was_set_back_is_0():
    later = struct.pack("@ll", 2_000_000_000, 0)
    assert timestamps.kernel_wait_ns([(socket.SOL_SOCKET, timestamps.SCM_TIMESTAMPNS, later)], time.time_ns()) == 0


@pytest.mark.parametrize("request_comes_meanwhile", [False, True])
def test_accept_wait_is_the_time_in_the_accept_queue(listener, request_comes_meanwhile):
    before = time.monotonic_ns()
    with socket.create_connection(listener.getsockname()) as client:
        after = time.monotonic_ns()
        time.sleep(0.1)
        if request_comes_meanwhile:
            client.sendall(b"request")
            time.sleep(0.05)
        with listener.accept()[0] as server:
            least = time.monotonic_ns() - after
            waited = timestamps.accept_wait_ns(server)
            most = time.monotonic_ns() - before
    assert least - TOLERANCE_NS <= waited <= most + TOLERANCE_NS


def test_accept_wait_of_a_closed_socket_is_0(listener):
    with socket.create_connection(listener.getsockname()):
        server = listener.accept()[0]
        server.close()
        assert timestamps.accept_wait_ns(server) == 0
