"""As many requests as one connection carries: `GET /` again and again, the same bytes each time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from locust import task

from loadtests.users.base import LabUser

if TYPE_CHECKING:
    from locust.env import Environment

REQUESTS_PER_TURN = 50
"""Locust's own work between two tasks costs about as much as a request; without think time it is shared."""


class KeepAliveUser(LabUser):
    """Keeps its connection for life."""

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self.keep_alive = True
        self._request = self.request("GET", "/")
        self._turn = 1 if self.options.think or self.pace else REQUESTS_PER_TURN

    @task
    def get(self) -> None:
        for _ in range(self._turn):
            if self.stopping:
                return
            self.send("GET", "/", self._request)
