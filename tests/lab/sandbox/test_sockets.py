"""TCP_INFO as this kernel fills it."""

import os
import select
import socket
import subprocess
import time

import pytest

from lab.sandbox.sockets import Sender, epoll_watchers, read_tcp_info, sender

DEADLINE_SECONDS = 5
BYTES = 10_000


def test_sender_has_sent_and_seen_acknowledged_what_was_written():
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as client:
        client.sendall(bytes(BYTES))
        deadline = time.monotonic() + DEADLINE_SECONDS
        # The SYN may be counted as a byte.
        while sender(client).acknowledged_bytes < BYTES and time.monotonic() < deadline:
            time.sleep(0.01)
        state = sender(client)
    assert state.sent_bytes == BYTES
    assert state.acknowledged_bytes == pytest.approx(BYTES, abs=1)
    assert state.in_flight_bytes == 0
    assert state.window_limited_seconds == 0


def test_bytes_sent_again_are_counted_once():
    info = bytearray(248)
    for offset, value in ((120, 3000), (168, 5_000_000), (176, 4_500_000), (200, 9000), (208, 2000)):
        info[offset : offset + 8] = value.to_bytes(8, "little")
    assert read_tcp_info(bytes(info)) == Sender(7000, 3000, 5.0, 4.5)
    assert read_tcp_info(bytes(info)).in_flight_bytes == 4000


class Here:
    """This machine, in place of a sandbox's namespace."""

    def run(self, *command):
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_a_process_watches_a_listener_while_it_is_in_its_epoll_set():
    with socket.create_server(("127.0.0.1", 0)) as listener, select.epoll() as poll:
        port, us = listener.getsockname()[1], os.getpid()
        assert epoll_watchers(Here(), port, [us, os.getppid()]) == 0
        poll.register(listener, select.EPOLLIN)
        assert epoll_watchers(Here(), port, [us, os.getppid()]) == 1
        poll.unregister(listener)
        assert epoll_watchers(Here(), port, [us]) == 0
