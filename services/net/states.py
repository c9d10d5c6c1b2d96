"""The states of a connection (connection.py has the table of them), and the events that epoll is asked for in each."""

from __future__ import annotations

import select

READABLE, WRITABLE = select.EPOLLIN, select.EPOLLOUT
READING = frozenset({"idle", "head", "body"})
EVENTS = {
    "idle": READABLE, "head": READABLE, "body": READABLE,
    "paused": select.EPOLLRDHUP,  # read nothing for now, but hear of a peer that has sent all it had
    "executing": READABLE,  # usually the response comes first, so that epoll need not be told twice
    "writing": WRITABLE,
    "producing": select.EPOLLRDHUP,  # the application hears of a peer that has sent all it had
    "lingering": READABLE,
}  # fmt: skip
