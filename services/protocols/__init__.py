"""Protocols without I/O: bytes to messages, responses to bytes."""

from __future__ import annotations

from collections.abc import Callable

from services.messages import Protocol
from services.protocols.echo import Echo
from services.protocols.http1 import CommonHead, Http1
from services.protocols.http1_parser import OpenBody
from services.protocols.memcache_text import MemcacheText

__all__ = ["CommonHead", "chooser"]


def chooser(name: str, common: CommonHead, open_body: OpenBody) -> Callable[[bytes], Protocol]:
    """Return a function that gives a connection its protocol object, once its first bytes are there.

    `auto` looks at the first of them: HTTP's methods are upper case, memcached's commands lower case. What
    is neither goes to HTTP, which refuses it with 400.
    """

    def http1(_first: bytes) -> Protocol:
        return Http1(common, open_body)

    def auto(first: bytes) -> Protocol:
        return MemcacheText() if b"a" <= first[:1] <= b"z" else http1(first)

    choices: dict[str, Callable[[bytes], Protocol]] = {
        "auto": auto,
        "http1": http1,
        "memcache": lambda _first: MemcacheText(),
        "echo": lambda _first: Echo(),
    }
    return choices[name]
