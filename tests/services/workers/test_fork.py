"""Descriptors of a forked child: all are closed but its own."""

from __future__ import annotations

import os
import resource
import subprocess
import sys

from services.workers.fork import close_all_but


def test_only_the_gaps_are_closed() -> None:
    # In a child, since it closes nearly everything.
    program = (
        "import os\n"
        "from services.workers.fork import close_all_but\n"
        "kept, closed = os.dup(0), [os.dup(0) for _ in range(5)]\n"
        "os.dup2(0, 100); os.dup2(0, 200)\n"
        "close_all_but({0, 1, 2, kept, 100})\n"
        "print(sorted(int(name) for name in os.listdir('/proc/self/fd')))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=20)
    assert done.stdout == "[0, 1, 2, 3, 4, 100]\n"  # 4 is the listing's own


def test_gaps_are_closed_without_a_descriptor_to_spare() -> None:
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(reader, writer) + 1,) * 2)
        close_all_but({writer})
        os.write(writer, b"done")
        os._exit(0)
    os.close(writer)
    assert os.read(reader, 10) == b"done"
    assert os.read(reader, 10) == b""
    os.close(reader)
    os.waitpid(pid, 0)
