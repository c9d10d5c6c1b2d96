"""Others beside clients that do not read: what their figures come to."""

import pytest
from support.results import arms

from lab.experiments import slow_reader_client


def others(p99, p50=1.5):
    return {"p99": p99, "p50": p50}


ALONE = [others(p99) for p99 in (2.0, 2.1, 2.2, 2.3, 2.4)]


@pytest.mark.parametrize(
    ("alone", "beside", "holds"),
    [
        pytest.param(ALONE, ALONE, True, id="the same"),
        pytest.param(ALONE, [others(1.0, 1.0)] * 5, True, id="quicker than alone"),
        pytest.param(ALONE, [others(4.5, 2.7)] * 5, False, id="later by a request's work"),
        pytest.param(ALONE, [others(2.2, 2.7)] * 5, False, id="a middle later by more than the work"),
        pytest.param(ALONE, [others(4.5)] * 5, False, id="a later end, spreads apart"),
        pytest.param(ALONE, [others(p99) for p99 in (2.3, 4, 4, 4, 4)], None, id="a later end, spreads overlap"),
        pytest.param([others(2)], [others(4)], None, id="a little later, and one pair only"),
    ],
)
def test_others_are_unhurt(alone, beside, holds):
    assert slow_reader_client.unhurt(arms(alone=alone, beside=beside)).holds is holds


@pytest.mark.parametrize(("beside", "holds"), [(1.9, True), (2.1, False), (60.0, False)])
def test_the_loop_sleeps(beside, holds):
    figures = arms(alone=[{slow_reader_client.CPU: 1.0}], beside=[{slow_reader_client.CPU: beside}])
    assert slow_reader_client.idle(figures).holds is holds
