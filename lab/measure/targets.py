"""Files by which the stack's Prometheus finds what runs for a while: an experiment, a load."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from typing import TYPE_CHECKING

from lab.settings import STATE_DIR

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TARGETS = STATE_DIR / "prometheus" / "targets"


@contextlib.contextmanager
def target(address: str, job: str, instance: str = "") -> Iterator[None]:
    """A file that names the run to Prometheus. Those of runs that were killed are removed by the next.

    Its lock, which the kernel takes from whoever dies, says that the run lives: a process's number is used again.
    """
    for file in TARGETS.glob(f"{job}-*.yml"):
        if _is_left_over(file):
            file.unlink(missing_ok=True)
    file = TARGETS / f"{job}-{os.getpid()}.yml"
    new = file.with_suffix(".new")
    with new.open("w", encoding="utf-8") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        # JSON is YAML, too.
        json.dump([{"targets": [address], "labels": {"instance": instance or job}}], stream)
        stream.flush()
        new.replace(file)
        try:
            yield
        finally:
            file.unlink(missing_ok=True)


def _is_left_over(file: Path) -> bool:
    try:
        with file.open(encoding="utf-8") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # locked, or gone
        return False
    return True
