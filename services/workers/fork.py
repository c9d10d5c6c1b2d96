"""Fork: how a child process begins, and what it must not inherit.

Why workers are forked, and not started anew. A fork shares with main, page by page until somebody writes to it, all
that is imported, and it inherits the anonymous mapping of the counters (metrics/slots.py) and main's listener, which
an exec'd process would have to be passed. It takes milliseconds, so a dead worker is replaced in the same way.

Why from a main that has started no thread. fork() copies the memory of all threads but continues only the one that
called it: a lock that another thread held at that moment (of malloc, of logging, of SQLite) stays locked in the child
for ever, since its owner does not exist there. So main starts no thread before its processes are there; with process
workers it never starts one, and can fork again at any time. With thread workers only the admin process is ever forked
again, and then it keeps away from SQLite (`make_helper` in __main__.py).

What a child inherits, and what is done about each:

- Descriptors: a copy of every one. A copied connection stays open after its owner has closed it, the peer never learns
  of it, and epoll goes on to report it; a copied end of a neighbour's channel hides that neighbour's death. So a child
  closes all but the few that it is for (`close_all_but`).
- Locks of files: an flock belongs to the open file, so it is held until the last copy is closed. The locks of fcntl(),
  which SQLite uses, are not inherited, so a child's copy of a connection believes that it holds what the kernel never
  gave it. So no database is open across a fork: the store closes its connections before one (os.register_at_fork),
  and each thread of each process connects when it first needs to.
- Signal handlers: main's would run in the child. They are put back first of all.
- Python objects: main's loop, its sockets and their numbers live on in frames that the child never returns to. `_exit`
  instead of `exit` is what keeps their destructors, and `atexit`, from running a second time.
- Its parent's end, not at all: a child of a killed parent lives on unless the kernel is asked to end it
  (`end_with_parent`).
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import signal
import socket
from collections.abc import Callable, Iterator
from itertools import pairwise

log = logging.getLogger("services")

PR_SET_PDEATHSIG = 1


class Child:
    """A forked process, as its parent sees it."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.status: int | None = None
        """As `os.waitpid` gives it; None while the process lives."""

    def has_ended(self) -> bool:
        """Return whether it has, without waiting for it."""
        if self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = status
        return self.status is not None

    def wait(self) -> None:
        """Wait for its end."""
        if self.status is None:
            self.status = os.waitpid(self.pid, 0)[1]

    def how_it_ended(self) -> str:
        """Return how, for the log."""
        code = os.waitstatus_to_exitcode(self.status or 0)
        return f"pid {self.pid}, " + (signal.Signals(-code).name if code < 0 else f"exit code {code}")

    def signal(self, number: int) -> None:
        """Send it a signal, if it lives: after `has_ended` its number may be another's."""
        if not self.has_ended():
            os.kill(self.pid, number)


def fork_worker(run: Callable[[], None], keep: list[socket.socket]) -> Child:
    """Fork a child that runs `run()` and exits. It ends when main does, however main ends.

    The child closes every descriptor but the three standard ones and those to `keep`. Nothing is flushed: whoever
    writes to a standard stream flushes it at once.
    """
    main = os.getpid()
    pid = os.fork()
    if pid:
        return Child(pid)
    status = 1
    try:
        end_with_parent(main)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; main tells us what to do
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # and so does a terminal's end
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        close_all_but({0, 1, 2, *(sock.fileno() for sock in keep)})
        run()
        status = 0
    except BaseException:
        log.exception("process %d (of main %d) crashed", os.getpid(), main)
    finally:
        logging.shutdown()
        os._exit(status)


def end_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent dies.

    A pipe's end of file would reach a worker only when it returns to its loop; a worker that is stuck in
    a handler would keep the port.
    """
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before we asked
        os._exit(1)


def close_all_but(keep: set[int]) -> None:
    """Close every descriptor of this process that is not in `keep`.

    Gap by gap: listing /proc/self/fd would take a descriptor itself, and there may be none left.
    """
    bounds = [-1, *sorted(keep), os.sysconf("SC_OPEN_MAX")]
    for below, above in pairwise(bounds):
        if below + 1 < above:  # closerange(0, 0) would be close_range(0, -1): all of them
            os.closerange(below + 1, above)


class SpareDescriptors:
    """Descriptors that main holds back, so that a worker can be replaced while clients hold all the others."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._held: list[int] = []
        self._hold()

    @contextlib.contextmanager
    def lent(self) -> Iterator[None]:
        """Have them free for a moment."""
        self.close()
        try:
            yield
        finally:
            self._hold()

    def close(self) -> None:
        """Hold none any more."""
        while self._held:
            os.close(self._held.pop())

    def _hold(self) -> None:
        with contextlib.suppress(OSError):  # none are left: hold those that there were
            while len(self._held) < self._number:
                self._held.append(os.open(os.devnull, os.O_RDONLY))
