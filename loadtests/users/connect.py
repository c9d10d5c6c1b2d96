"""A new connection for each request: every request passes through the accept queue."""

from __future__ import annotations

from typing import TYPE_CHECKING

from locust import task

from loadtests.users.base import LabUser

if TYPE_CHECKING:
    from locust.env import Environment


class ConnectionPerRequestUser(LabUser):
    """Says `Connection: close`, so that the server closes after its response."""

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self.keep_alive = False
        self._request = self.request("GET", "/")

    @task
    def get(self) -> None:
        self.send("GET", "/", self._request)
