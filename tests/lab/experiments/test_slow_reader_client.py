"""Others beside clients that do not read: what their figures come to."""

import pytest
from support.results import arms

from lab.experiments import slow_reader_client


def others(p99, p50=40):
    return {"p99": p99, "p50": p50}


ALONE = [others(p99) for p99 in (41.0, 41.5, 42.0, 42.5, 43.0)]


@pytest.mark.parametrize(
    ("alone", "beside", "holds"),
    [
        pytest.param(ALONE, ALONE, True, id="the same"),
        pytest.param(ALONE, [others(120, 80) for _ in ALONE], False, id="much later"),
        pytest.param(ALONE, [others(trial["p99"], 42) for trial in ALONE], None, id="a later middle, spreads overlap"),
        pytest.param([others(80)] * 5, [others(41)] * 5, None, id="quicker than alone"),
        pytest.param([others(41)], [others(60)], None, id="a little later, and one pair only"),
    ],
)
def test_others_are_unhurt(alone, beside, holds):
    assert slow_reader_client.unhurt(arms(alone=alone, beside=beside)).holds is holds


@pytest.mark.parametrize(("beside", "holds"), [(1.5, True), (60.0, False)])
def test_the_loop_sleeps(beside, holds):
    figures = arms(alone=[{slow_reader_client.CPU: 1.0}], beside=[{slow_reader_client.CPU: beside}])
    assert slow_reader_client.idle(figures).holds is holds
