"""The same load in memcached's text protocol, for our models and for the real memcached alike."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from locust import task

from loadtests.connection import MemcacheConnection, Reply
from loadtests.measurements import WrongReplyError
from loadtests.users.base import LabUser

if TYPE_CHECKING:
    from locust.env import Environment

KEYS = 100
VALUE = b"v" * 100


def stored(reply: Reply) -> Exception | None:
    """A set is answered by STORED."""
    return None if reply.body == b"STORED\r\n" else WrongReplyError(repr(reply.body[:40]))


def value_or_nothing(reply: Reply) -> Exception | None:
    """A get is answered by our value, or by END alone while nobody has set it."""
    good = reply.body == b"END\r\n" or (reply.body.startswith(b"VALUE ") and VALUE in reply.body)
    return None if good else WrongReplyError(repr(reply.body[:40]))


class MemcacheUser(LabUser):
    """Nine gets to one set, as in the Facebook workload that memcached is known for."""

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self.keep_alive = True
        self._gets = [b"get load-%d\r\n" % key for key in range(KEYS)]
        self._sets = [b"set load-%d 0 0 %d\r\n%s\r\n" % (key, len(VALUE), VALUE) for key in range(KEYS)]

    def open(self) -> MemcacheConnection:
        return MemcacheConnection(self.target, self.options.timeout)

    @task(9)
    def get(self) -> None:
        self.send("MEMCACHE", "get", random.choice(self._gets), value_or_nothing)

    @task(1)
    def set(self) -> None:
        self.send("MEMCACHE", "set", random.choice(self._sets), stored)
