"""Disks that are full or read-only: file systems in memory, mounted where a test wants them. Needs root."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import tools

CHUNK_BYTES = 4096


@contextlib.contextmanager
def disk(folder: Path, size_bytes: int) -> Iterator[Path]:
    """A file system of this size at `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    mount = [tools.require_tool("mount"), "-t", "tmpfs", "-o", f"size={size_bytes},mode=755", "lab-test", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"cannot mount: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        # Lazily: a server that the test is about to end may still be in there.
        subprocess.run(["umount", "--lazy", folder], check=True)


def fill(folder: Path) -> None:
    """Take all the room that is left there."""
    with (folder / "filler").open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(CHUNK_BYTES))


def make_read_only(folder: Path) -> None:
    """Let nobody write there any more, root neither. What is open for writing would prevent it, so it is forced."""
    subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
