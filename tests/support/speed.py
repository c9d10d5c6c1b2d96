"""How much slower than alone this machine is at the moment: neighbours of a virtual machine make processor time dearer."""

from __future__ import annotations

import json
import statistics
import time

ALONE_SECONDS = 0.03
"""Processor time of `_work` where nobody shares the core: the least of many on the machine that runs CI."""
LOOKS = 9


def slowdown() -> float:
    """Processor time that the same work takes now, over what it takes alone; at least 1. Takes half a second."""
    return max(1.0, statistics.median(_work() for _ in range(LOOKS)) / ALONE_SECONDS)


def _work() -> float:
    """Processor seconds of work like that of the lab's own Python: making, reading and splitting text."""
    began = time.process_time()
    text = json.dumps({str(number): [number, str(number)] for number in range(20_000)})
    json.loads(text)
    sum(len(part) for part in text.split(","))
    return time.process_time() - began
