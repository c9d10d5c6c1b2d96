"""A model in shared memory, and its admin process."""

import http.client
import json
import os
import signal
import socket
import threading
from contextlib import closing

import pytest
from prometheus_client.parser import text_string_to_metric_families

from lab.peers.process import die_with
from services.metrics import slots
from services.metrics.admin import serve_admin
from services.metrics.description import Description, SharedOptions

WORKERS = 3


class Admin:
    """A model with three blocks for workers, and its admin process."""

    def __init__(self):
        self.shared = slots.Slots(WORKERS)
        self.service = socket.create_server(("127.0.0.1", 0), backlog=5)
        self.main = self.shared.main
        self.main[slots.PID] = self.main[slots.TID] = os.getpid()
        self.main[slots.STATE] = slots.SERVING
        self.main[slots.LISTENER_INODE] = os.fstat(self.service.fileno()).st_ino
        self.options = {"workers": 2, "protocol": "auto", "backlog": 5, "assign": "round-robin"}
        self.in_force = SharedOptions(self.options)
        self.main_pid = os.getpid()

    def start(self):
        listener = socket.create_server(("127.0.0.1", 0))
        self.address = listener.getsockname()
        description = Description(
            model="memcached",
            main_pid=self.main_pid,
            worker_kind="thread",
            port=self.service.getsockname()[1],
            admin_host="127.0.0.1",
            options=self.options,
            in_force=self.in_force,
        )
        parent, self.pid = os.getpid(), os.fork()
        if not self.pid:
            die_with(parent, signal.SIGKILL)  # the lock of tests that are killed, which it has inherited, would live on
            serve_admin(listener, description, self.shared)
            os._exit(0)
        listener.close()

    def worker(self, number, state=slots.SERVING):
        block = self.shared.worker(number)
        block[slots.PID], block[slots.TID] = os.getpid(), threading.get_native_id()
        block[slots.STATE] = state
        return block

    def ask(self, path, method="GET"):
        with closing(http.client.HTTPConnection(*self.address, timeout=10)) as connection:
            connection.request(method, path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()

    def state(self):
        status, body = self.ask("/state")
        assert status == 200
        return json.loads(body)

    def samples(self):
        status, body = self.ask("/metrics")
        assert status == 200
        return [sample for family in text_string_to_metric_families(body) for sample in family.samples]

    def metric(self, name, **labels):
        found = [s.value for s in self.samples() if s.name == name and labels.items() <= s.labels.items()]
        assert found, f"no series {name} {labels}"
        return sum(found)

    def end(self):
        self.service.close()
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


@pytest.fixture
def admin():
    admin = Admin()
    yield admin
    admin.end()


@pytest.fixture
def running(admin):
    admin.worker(0)
    admin.worker(1)
    admin.start()
    return admin
