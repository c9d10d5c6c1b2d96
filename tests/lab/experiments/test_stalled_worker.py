"""stalled-worker is sure that its worker stood still."""

import pytest

from lab.experiments.stalled_worker import none_accepted
from lab.harness.trial import TrialError


def test_stalled_worker_that_accepts_is_no_trial():
    before, after = {"0": 1.0, "1": 0.0}, {"0": 3.0, "1": 9.0}
    with pytest.raises(TrialError, match=r"worker 0 should have stood still and accepted 2 connections: run it again"):
        none_accepted(["0"], before, after)


def test_others_may_accept_and_so_may_the_stalled_one_before():
    none_accepted(["0"], {"0": 1.0, "1": 0.0}, {"0": 1.0, "1": 9.0})
    none_accepted([], {"0": 0.0}, {"0": 9.0})
