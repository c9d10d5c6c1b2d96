"""dispatch-bottleneck: which side has no time left first."""

import pytest
from support.results import arms

from lab.experiments import dispatch_bottleneck
from lab.experiments.dispatch_bottleneck import DEMAND, DISPATCHER_BOUND, FOUR, ONE, WORKERS_BOUND, Used, bounds


def judged(name, **figures):
    (check,) = (check for check in dispatch_bottleneck.EXPERIMENT.checks if check.name == name)
    return check.judge(arms(**figures)).holds


@pytest.mark.parametrize(("dispatcher", "workers", "holds"), [(4000, 30_000, True), (4000, 800, False)])
def test_dispatcher_is_the_limit_where_it_can_do_less_than_the_workers(dispatcher, workers, holds):
    figures = {DISPATCHER_BOUND: dispatcher, WORKERS_BOUND: workers}
    assert judged("dispatcher-is-the-limit", **{FOUR: [figures]}) is holds


@pytest.mark.parametrize(
    ("trials", "four", "holds"),
    [
        (3, 240, True),
        (3, 275, False),
        (3, 120, False),
        (1, 240, True),
        (1, 275, None),
        (1, 480, False),
        (1, 120, False),
    ],
)
def test_demand_on_the_dispatcher_stays(trials, four, holds):
    assert judged("demand-stays", **{ONE: [{DEMAND: 240}] * trials, FOUR: [{DEMAND: four}] * trials}) is holds


def test_bounds_are_requests_over_what_they_took_of_each_side():
    found = bounds(Used(requests=1000, dispatcher=0.25, workers=0.5), workers=4)
    assert {name: figure.value for name, figure in found.items()} == {DISPATCHER_BOUND: 4000, WORKERS_BOUND: 8000}
    assert bounds(Used(1000, 0.25, 0.0), workers=1) == {}
