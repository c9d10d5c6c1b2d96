"""A mix over the application's routes: mostly reads, some writes, a little simulated work."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from locust import task

from loadtests.measurements import WrongReplyError
from loadtests.users.base import LabUser, successful

if TYPE_CHECKING:
    from locust.env import Environment

    from loadtests.connection import Reply

KEYS = 100
VALUE = b"v" * 100


def found_or_not(reply: Reply) -> Exception | None:
    """A key that nobody has put yet is a good answer too; another value than ours is not."""
    if reply.status == 404:
        return None
    if reply.status == 200 and reply.body != VALUE:
        return WrongReplyError(f"{len(reply.body)} bytes that nobody has put")
    return successful(reply)


class MixedUser(LabUser):
    """Of 20 requests: 10 `GET /`, 6 reads and 2 writes of keys, 1 counter read, 1 simulated work."""

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self._index = self.request("GET", "/")
        self._reads = [self.request("GET", f"/kv/load-{key}") for key in range(KEYS)]
        self._writes = [self.request("PUT", f"/kv/load-{key}", VALUE) for key in range(KEYS)]
        self._counter = self.request("GET", "/counters/load")
        self._work = self.request("GET", f"/work?cpu={self.options.cpu}&block={self.options.block}")

    @task(10)
    def index(self) -> None:
        self.send("GET", "/", self._index)

    @task(6)
    def read(self) -> None:
        self.send("GET", "/kv/{key}", random.choice(self._reads), found_or_not)

    @task(2)
    def write(self) -> None:
        self.send("PUT", "/kv/{key}", random.choice(self._writes))

    @task(1)
    def counter(self) -> None:
        self.send("GET", "/counters/{name}", self._counter)

    @task(1)
    def work(self) -> None:
        self.send("GET", "/work", self._work)
