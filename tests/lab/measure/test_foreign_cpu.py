"""What others took of the processors: in seconds that a process here has really used."""

import os
import subprocess
import sys
import time

import pytest

from lab.measure.foreign_cpu import ForeignCpu

BUSY_SECONDS = 1.0
BURN = f"import time\nwhile time.process_time() < {BUSY_SECONDS}: pass\nprint(flush=True)\ninput()"


@pytest.fixture
def busy():
    """Has used its seconds, and waits to be told to end."""
    with subprocess.Popen([sys.executable, "-c", BURN], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        yield process
        process.kill()


@pytest.mark.quiet
def test_running_process_is_anothers_and_one_that_has_ended_is_ours(busy):
    cpus = os.sched_getaffinity(0)
    others, begun = ForeignCpu(cpus), time.monotonic()

    def taken_seconds():
        return others.share() * (time.monotonic() - begun) * len(cpus)

    busy.stdout.readline()
    before = taken_seconds()
    busy.communicate(b"\n")
    after = taken_seconds()
    assert before > 0.8 * BUSY_SECONDS
    assert before - after > 0.7 * BUSY_SECONDS


@pytest.mark.quiet
def test_only_the_processors_that_were_named_count(busy):
    first, *rest = sorted(os.sched_getaffinity(0))
    if not rest:
        pytest.skip("needs two processors")
    os.sched_setaffinity(busy.pid, {first})
    watched, elsewhere = ForeignCpu({first}), ForeignCpu(rest)
    busy.stdout.readline()
    assert watched.share() > elsewhere.share()


def test_of_a_processor_that_is_not_shown_nothing_is_known():
    assert ForeignCpu({1_000_000}).share() == 0.0
