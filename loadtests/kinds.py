"""The kinds of user by name. It imports no Locust, whose import makes every socket of a process gevent's."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

KINDS = {
    "keep-alive": ("loadtests.users.keep_alive", ("KeepAliveUser",)),
    "connect": ("loadtests.users.connect", ("ConnectionPerRequestUser",)),
    "mixed": ("loadtests.users.browse", ("MixedUser",)),
    "work": ("loadtests.users.work", ("WorkUser",)),
    "hot": ("loadtests.users.hot", ("HotUser", "QuietUser")),
    "counters": ("loadtests.users.counters", ("RetryingUser",)),
    "memcache": ("loadtests.users.memcache", ("MemcacheUser",)),
}
"""Kind → the file that holds it, and its classes."""


def classes_of(kinds: Iterable[str]) -> dict[str, type]:
    """The user classes of `kinds`, by class name. Raises ValueError for a kind that does not exist."""
    classes: dict[str, type] = {}
    for kind in kinds:
        if kind not in KINDS:
            raise ValueError(f"unknown user kind {kind!r}; there are {', '.join(KINDS)}")
        module, names = KINDS[kind]
        classes |= {name: getattr(import_module(module), name) for name in names}
    return classes
