"""Standard input, output and error, which whoever starts a server may have closed: the server works without them.

Closed before the start (`>&-`): Python has no `sys.stdout` then, and the kernel would give the free number, which
libraries and children take for the standard output, to the first socket. Closed later, at the other end of a pipe:
a write fails (EPIPE), and so does each flush after it, since the bytes stay in Python's buffer.
"""

from __future__ import annotations

import logging
import os
import sys

log = logging.getLogger("services")


def open_closed_streams() -> None:
    """Open /dev/null for each that is closed. To be called before any descriptor is opened."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    for name, number in (("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w", encoding="utf-8", closefd=False))  # noqa: SIM115


def print_line(line: str) -> None:
    """Write a line to standard output; where nobody reads it, log it instead, and go on."""
    try:
        print(line, flush=True)
    except OSError as error:
        log.warning("cannot write to stdout (%s), so it is said here: %s", error.strerror, line)
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())  # what is left in the buffer goes there
        os.close(null)
