"""User classes of one's own file, with what the lab's have: a gentle end, and requests without a response counted."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gevent
from locust.clients import HttpSession
from locust.contrib.fasthttp import FastHttpSession
from locust.util.load_locustfile import load_locustfile

from loadtests.measurements import MEASURED, NoResponseError
from loadtests.options import target_of
from loadtests.users.gentle import GentleUser

if TYPE_CHECKING:
    from locust import User


def users_in(path: str) -> dict[str, type[User]]:
    """Return the user classes of a locustfile, by name. Ends the process with a line if there is none."""
    if not Path(path).is_file():
        sys.exit(f"there is no file {path}: give a Python file with classes of Locust's users")
    classes, _ = load_locustfile(str(Path(path).resolve()))
    if not classes:
        sys.exit(f"{path} has no user class: write one that inherits locust.HttpUser or loadtests.users.base.LabUser")
    for session in (HttpSession, FastHttpSession):
        _count_killed(session)
    return {name: _gentle(user) for name, user in classes.items()}


def _gentle(user: type[User]) -> type[User]:
    """Return the class with the lab's way to end, under its own name."""
    if issubclass(user, GentleUser):
        return user
    return type(user.__name__, (GentleUser, user), {"abstract": False, "__module__": user.__module__})


def _count_killed(session: Any) -> None:
    """Have a session of Locust's count the request that it waits for when its user is killed.

    No event of Locust tells of those: the exception passes every handler of the request.
    """
    send = session._send_request_safe_mode

    def counted(self: Any, method: str, url: str, **options: Any) -> Any:
        try:
            return send(self, method, url, **options)
        except gevent.GreenletExit:
            environment = self.user.environment
            MEASURED.unanswered(target_of(environment).model)
            environment.stats.log_error(method, url, NoResponseError("no response at the end of the run"))
            raise

    session._send_request_safe_mode = counted
