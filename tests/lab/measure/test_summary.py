"""Medians and spreads."""

from __future__ import annotations

import pytest

from lab.measure.summary import overlap, summarise


def test_summary_of_several_values():
    assert summarise([3.0, 1.0, 10.0], "ms") == {"median": 3.0, "min": 1.0, "max": 10.0, "unit": "ms", "n": 3}


def test_summary_of_nothing_is_refused():
    with pytest.raises(ValueError, match="nothing was measured"):
        summarise([], "ms")


@pytest.mark.parametrize(("other", "expected"), [([2, 5], True), ([3, 5], True), ([4, 5], False), ([0, 0.5], False)])
def test_spreads_that_touch_overlap(other, expected):
    assert overlap(summarise([1, 3], "1"), summarise(other, "1")) is expected
