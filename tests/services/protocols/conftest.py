"""Real memcached, to compare replies with."""

import socket
import subprocess
import time

import pytest

DEADLINE_SECONDS = 10
# Without its background threads: while one of them holds an item, `decr` makes a new, shorter one instead of
# writing in place, and the length of the value is a matter of luck.
SETTINGS = ["-t", "1", "-o", "no_lru_crawler,no_lru_maintainer,no_slab_reassign"]


class RealMemcached:
    """Asked over a connection of its own each time, to the end: the bytes it answers are all it has to say."""

    def __init__(self, path):
        self.path = path

    def reply_to(self, data):
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(DEADLINE_SECONDS)
            client.connect(self.path)
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
            reply = b""
            while part := client.recv(65536):
                reply += part
        return reply

    def wait_until_it_answers(self):
        deadline = time.monotonic() + DEADLINE_SECONDS
        while True:
            try:
                self.reply_to(b"version\r\n")
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.005)
            else:
                return


@pytest.fixture(scope="module")
def memcached_started(tmp_path_factory, require_tool):
    """Start an empty memcached; all are gone after the module."""
    program = require_tool("memcached")
    processes = []

    def start():
        path = str(tmp_path_factory.mktemp("memcached") / "m")
        command = [program, "-s", path, "-u", "root", *SETTINGS]
        processes.append(subprocess.Popen(command, stderr=subprocess.DEVNULL))
        real = RealMemcached(path)
        real.wait_until_it_answers()
        return real

    yield start
    for process in processes:
        process.kill()
        process.wait()
