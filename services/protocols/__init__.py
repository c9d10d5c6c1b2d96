"""Protocols without I/O: bytes to messages, responses to bytes."""

from __future__ import annotations

from services.messages import Choose, FindPeer, Protocol
from services.protocols.echo import Echo
from services.protocols.http1 import CommonHead, Http1, PeerHttp1
from services.protocols.http1_parser import OpenBody
from services.protocols.memcache_text import MemcacheText

__all__ = ["CommonHead", "chooser"]


def nobody() -> None:
    """Return None: no peer is known."""


def chooser(name: str, common: CommonHead, open_body: OpenBody, *, tells_peer: bool = False) -> Choose:
    """Return a function that gives a connection its protocol object, once its first bytes are there.

    `auto` looks at the first of them: HTTP's methods are upper case, memcached's commands lower case. What
    is neither goes to HTTP, which refuses it with 400. With `tells_peer` HTTP's requests say who sent them.
    """

    def http1(_first: bytes, peer: FindPeer = nobody) -> Protocol:
        return PeerHttp1(common, open_body, peer()) if tells_peer else Http1(common, open_body)

    def auto(first: bytes, _peer: FindPeer = nobody) -> Protocol:
        return MemcacheText() if b"a" <= first[:1] <= b"z" else http1(first)

    choices: dict[str, Choose] = {
        "auto": auto,
        "http1": http1,
        "memcache": lambda _first, _peer=nobody: MemcacheText(),
        "echo": lambda _first, _peer=nobody: Echo(),
    }
    return choices[name]
