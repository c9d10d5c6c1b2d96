"""lost-updates: processes that add to counters in shared memory."""

import pytest

from lab.experiments import lost_updates
from lab.experiments.lost_updates import Slots, forked, locked, opened, unlocked, wait_for_all
from lab.harness.trial import TrialError


def test_children_write_to_the_memory_of_their_parent():
    slots = Slots(2)
    with forked(2, lambda worker: slots.__setitem__(worker, worker + 5)) as finish:
        finish()
    assert [slots[0], slots[1]] == [5, 6]


def test_worker_that_fails_is_no_trial(capfd):
    with pytest.raises(TrialError, match="ended with 1"), forked(1, lambda _: 1 / 0) as finish:
        finish()
    assert "worker 0: ZeroDivisionError" in capfd.readouterr().err


def test_workers_that_are_never_ready_are_no_trial(monkeypatch):
    monkeypatch.setattr(lost_updates, "READY_SECONDS", 0.05)
    ready = Slots(2)
    ready[0] = 1
    with pytest.raises(TrialError, match="not all of 2 workers were ready"):
        wait_for_all(ready, 2)


@pytest.mark.parametrize("update", [unlocked, locked])
def test_one_worker_loses_nothing_and_waits_for_nobody(update, tmp_path):
    counters = Slots(1)
    with opened(tmp_path / "lock") as lock:
        assert update(counters, 0, 1000, lock) == 0
    assert counters[0] == 1000


def test_workers_with_a_lock_lose_nothing(tmp_path):
    counters = Slots(1)

    def work(_worker):
        with opened(tmp_path / "lock") as lock:
            locked(counters, 0, 5000, lock)

    with forked(3, work) as finish:
        finish()
    assert counters[0] == 15_000
