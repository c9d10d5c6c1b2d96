"""Cheap requests and a few heavy ones: who has to wait for whom is where the models differ."""

from __future__ import annotations

from typing import TYPE_CHECKING

from locust import task

from loadtests.users.base import LabUser

if TYPE_CHECKING:
    from locust.env import Environment


class WorkUser(LabUser):
    """Of 20 requests, one takes `--cpu` of processor time and blocks its worker for `--block`."""

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self._cheap = self.request("GET", "/")
        self._heavy = self.request("GET", f"/work?cpu={self.options.cpu}&block={self.options.block}")

    @task(19)
    def cheap(self) -> None:
        self.send("GET", "/ (cheap)", self._cheap)

    @task(1)
    def heavy(self) -> None:
        self.send("GET", "/work (heavy)", self._heavy)
