"""A client that repeats a POST until it is answered, and then asks whether it counted exactly once."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING
from uuid import uuid4

import gevent
from locust import task

from loadtests.measurements import BadStatusError, WrongCountError
from loadtests.users.base import LabUser, successful

if TYPE_CHECKING:
    from locust.env import Environment

    from loadtests.connection import Reply

MAX_TRIES = 5
NO_TIME = "0ms"
PAUSE_BETWEEN_TRIES_SECONDS = 0.05
SERVER_ERROR = 500
"""From here on the server may or may not have counted: the same key again finds out."""
STILL_RUNNING = 409
"""The first try has not ended yet: the same key again, a little later."""


def accepted(reply: Reply) -> Exception | None:
    """409 asks for patience; anything else that is no success is a failure."""
    return None if reply.status == STILL_RUNNING else successful(reply)


class RetryingUser(LabUser):
    """Adds to a counter of its own, or with `--fresh-counters` to another one each time, so that what is lost here and
    doubled there does not add up. `--lose 0.1` loses a tenth of the responses, which forces retries.
    """

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self._path = f"/counters/load-{uuid4().hex}"
        self._effect = f"?block={self.options.effect}" if self.options.effect != NO_TIME else ""
        self._acknowledged = 0
        self._uncertain = 0

    @task
    def add(self) -> None:
        key = uuid4().hex
        path = f"{self._path}-{key}" if self.options.fresh_counters else self._path
        # The draft takes the key as a structured-field string, hence the quotes; request-id is for the
        # strategy of that name.
        headers = {"Idempotency-Key": f'"{key}"', "X-Request-Id": key}
        request = self.request("POST", path + self._effect, headers=headers)
        self._uncertain += 1
        for _ in range(MAX_TRIES):
            if random.random() < self.options.lose:
                self.lose(request)
                continue
            reply = self.send("POST", "/counters/{name}", request, accepted)
            if reply is not None and reply.status != STILL_RUNNING and reply.status < SERVER_ERROR:
                self._uncertain -= 1
                self._acknowledged += reply.status < 300
                return
            gevent.sleep(PAUSE_BETWEEN_TRIES_SECONDS)

    def on_stop(self) -> None:
        """Compare the counter with what was acknowledged; what never was may have counted or not."""
        self.disconnect()
        if self._acknowledged and not self.options.fresh_counters:
            self.send("GET", "/counters/{name}", self.request("GET", self._path), self._exactly_once)
        super().on_stop()

    def _exactly_once(self, reply: Reply) -> Exception | None:
        if reply.status != 200:
            return BadStatusError(reply.status)
        said = reply.body[:20].decode("ascii", "replace").strip()
        most = self._acknowledged + self._uncertain
        if said.isdecimal() and self._acknowledged <= int(said) <= most:
            return None
        return WrongCountError(f"the counter is {said}, expected {self._acknowledged} to {most}")
