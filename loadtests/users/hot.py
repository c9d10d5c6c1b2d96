"""One hot connection among quiet ones: whoever shares its worker waits behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from locust import task

from loadtests.users.base import LabUser

if TYPE_CHECKING:
    from locust.env import Environment

QUIET_SECONDS = 0.2
"""A quiet user asks five times a second unless `--think` says otherwise."""


class HotUser(LabUser):
    """There is one: heavy requests, one after the other without a pause."""

    fixed_count = 1

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self.keep_alive = True
        self.pace = 0.0
        self._request = self.request("GET", f"/work?cpu={self.options.cpu}&block={self.options.block}")

    def wait_time(self) -> float:
        return 0.0

    @task
    def work(self) -> None:
        self.send("GET", "/work (hot)", self._request)


class QuietUser(LabUser):
    """All the others: a cheap request now and then."""

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self.keep_alive = True
        self._request = self.request("GET", "/")

    def wait_time(self) -> float:
        seconds = super().wait_time()
        return seconds if self.pace else seconds or QUIET_SECONDS

    @task
    def get(self) -> None:
        self.send("GET", "/ (quiet)", self._request)
