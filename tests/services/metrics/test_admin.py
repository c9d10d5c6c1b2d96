"""The admin port over a real socket, served by a forked process."""

import http.client
import os
import signal
import socket
import subprocess
import sys
from contextlib import closing

import pytest
from support.servers import wait_until


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/", 404), ("GET", "/metrics/x", 404), ("POST", "/state", 405), ("DELETE", "/metrics", 405),
     ("GET", "/healthz?verbose", 200), ("HEAD", "/metrics", 200)],
)  # fmt: skip
def test_admin_port_answers_only_what_it_has(running, method, path, status):
    assert running.ask(path, method)[0] == status


@pytest.mark.parametrize("head", [b"nonsense\r\n\r\n", b"GET /state HTTP/2.0\r\n\r\n", b"GET /state\r\n\r\n"])
def test_admin_port_refuses_what_is_not_http(running, head):
    with socket.create_connection(running.address, timeout=10) as client:
        client.sendall(head)
        assert client.recv(1000).startswith(b"HTTP/1.1 400 ")
        assert client.recv(1000) == b""


def test_admin_port_refuses_a_head_without_end(running):
    with socket.create_connection(running.address, timeout=10) as client:
        client.sendall(b"GET /state HTTP/1.1\r\n" + b"X-Long: y\r\n" * 4000)
        assert client.recv(1000).startswith(b"HTTP/1.1 431 ")


def test_admin_port_keeps_a_connection_for_the_next_scrape(running):
    with closing(http.client.HTTPConnection(*running.address, timeout=10)) as connection:
        for _ in range(3):
            connection.request("GET", "/healthz")
            answer = connection.getresponse()
            assert answer.read() == b"ok\n"
            assert not answer.will_close


def test_admin_port_answers_while_other_clients_are_slow(running):
    slow = [socket.create_connection(running.address) for _ in range(30)]
    for client in slow:
        client.sendall(b"GET /met")
    assert running.ask("/healthz")[0] == 200
    for client in slow:
        client.close()


def test_admin_port_serves_only_so_many_at_once_and_recovers(running):
    clients = [socket.create_connection(running.address, timeout=10) for _ in range(70)]
    assert clients[-1].recv(1) == b""
    for client in clients:
        client.close()
    wait_until(lambda: answers(running))


def answers(admin):
    try:
        return admin.ask("/healthz")[0] == 200
    except (OSError, http.client.HTTPException):
        return False


def test_admin_process_ignores_sigint(running):
    assert running.ask("/healthz")[0] == 200
    os.kill(running.pid, signal.SIGINT)
    assert running.ask("/healthz")[0] == 200


def test_main_and_workers_do_not_load_what_only_the_admin_process_needs():
    program = "import sys, services.__main__; print({'asyncio', 'prometheus_client'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", program], text=True).strip() == "set()"
