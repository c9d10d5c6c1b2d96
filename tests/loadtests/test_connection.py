"""The client connection and the labels of its errors, at byte level."""

from __future__ import annotations

import socket
import threading

import pytest

from loadtests.connection import ConnectionClosedError, HttpConnection, MemcacheConnection, http_request
from loadtests.measurements import CONNECT_ERRORS, ERRORS, BadStatusError, Measurements, error_label
from loadtests.options import Target


class Scripted:
    """A server that sends what it is told, one piece a connection's request, and then closes."""

    def __init__(self, *pieces: bytes) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.target = Target("other", "127.0.0.1", self.listener.getsockname()[1])
        self.received: list[bytes] = []
        self.thread = threading.Thread(target=self.serve, args=(pieces,), daemon=True)

    def serve(self, pieces):
        connection, _ = self.listener.accept()
        with connection:
            for piece in pieces:
                self.received.append(connection.recv(65536))
                connection.sendall(piece)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.thread.join(5)
        self.listener.close()


def exchange(*pieces, requests=1, kind=HttpConnection):
    with Scripted(*pieces) as server:
        connection = kind(server.target, 5.0)
        try:
            return [connection.exchange(b"GET / HTTP/1.1\r\n\r\n") for _ in range(requests)]
        finally:
            connection.close()


def test_response_with_length():
    assert exchange(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello") == [(200, b"hello", True)]


def test_responses_follow_each_other_on_one_connection():
    answer = b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\nok"
    assert exchange(answer, answer, requests=2) == [(201, b"ok", True)] * 2


def test_chunked_response():
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n"
    assert exchange(answer)[0].body == b"hello"


def test_connection_close_is_noticed():
    answer = b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    assert exchange(answer) == [(503, b"", False)]


def test_continue_is_not_the_answer():
    answer = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx"
    assert exchange(answer) == [(200, b"x", True)]


def test_response_cut_short():
    with pytest.raises(ConnectionClosedError):
        exchange(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel")


@pytest.mark.parametrize("reply", [b"STORED\r\n", b"END\r\n", b"VALUE k 0 2\r\nvv\r\nEND\r\n", b"SERVER_ERROR no\r\n"])
def test_memcached_reply(reply):
    assert exchange(reply, kind=MemcacheConnection) == [(0, reply, True)]


def test_request_bytes():
    target = Target("nginx", "127.0.0.1", 8004)
    assert http_request(target, "PUT", "/kv/a", b"value", {"Connection": "close"}) == (
        b"PUT /kv/a HTTP/1.1\r\nHost: 127.0.0.1:8004\r\nConnection: close\r\nContent-Length: 5\r\n\r\nvalue"
    )


@pytest.mark.parametrize(
    ("error", "label"),
    [
        (ConnectionRefusedError(), "ConnectionRefusedError"),
        (TimeoutError(), "TimeoutError"),
        (BadStatusError(409), "409"),
        (BadStatusError(299), "other"),
        (OSError(), "other"),
    ],
)
def test_error_label(error, label):
    assert error_label(error) == label
    assert error_label(error) in ERRORS


def test_error_label_of_a_connect_is_from_the_smaller_set():
    assert error_label(BrokenPipeError(), CONNECT_ERRORS) == "other"


def test_measurements_of_two_processes_add_up():
    one, other = Measurements(), Measurements()
    for measured in (one, other):
        measured.introduce("nginx")
        measured.connected("nginx", 0.01)
        measured.responded("nginx", "GET", "/", 0.001, None)
    other.responded("nginx", "GET", "/", 0.002, BadStatusError(500))
    one.include(other.snapshot())
    assert one.responses["nginx", "GET", "/"].count == 3
    assert one.connects["nginx"].count == 2
    assert one.failures["nginx", "500"] == 1
    assert one.failures["nginx", "503"] == 0
    assert other.responses["nginx", "GET", "/"].count == 2
