"""Threads and processes: what their figures come to."""

import pytest
from support.results import arms

from lab.experiments import process_or_thread


def workers(going_on, rate, in_line=0.05, *, gil=1):
    metrics = {process_or_thread.HAS_GIL: gil}
    for work in ("hold", "hold-c", "release"):
        metrics |= {
            f"{work}: {process_or_thread.GOING_ON}": going_on,
            f"{work}: {process_or_thread.IN_LINE}": in_line,
            f"{work}: rate": rate,
        }
    return [metrics]


PROCESSES = workers(2, 370)
SHORT_OF_CORES = 0.5


@pytest.mark.parametrize(
    ("threads", "processes", "holds"),
    [
        pytest.param(workers(1.05, 195), PROCESSES, True, id="one at a time"),
        pytest.param(workers(2, 370), PROCESSES, False, id="both"),
        pytest.param(workers(1.05, 360), PROCESSES, False, id="as fast as processes"),
        pytest.param(workers(1.05, 195), workers(1.05, 195), False, id="processes no better"),
        pytest.param(
            workers(1.05, 190), workers(2, 200, SHORT_OF_CORES), True, id="rates do not tell on a busy machine"
        ),
        pytest.param(workers(1.5, 190, SHORT_OF_CORES), PROCESSES, None, id="a busy machine does not tell"),
        pytest.param(workers(2, 190, SHORT_OF_CORES), PROCESSES, False, id="clearly both, however busy"),
        pytest.param(workers(2, 370, gil=0), PROCESSES, True, id="no GIL, both"),
        pytest.param(workers(1.05, 195, gil=0), PROCESSES, False, id="no GIL, one at a time"),
    ],
)
def test_threads_that_hold_the_gil(threads, processes, holds):
    judge = process_or_thread.one_at_a_time("hold", "").judge
    assert judge(arms(threads=threads, processes=processes)).holds is holds


def test_rates_of_calibrated_work_are_not_judged():
    figures = arms(threads=workers(1.05, 300), processes=PROCESSES)
    assert process_or_thread.one_at_a_time("hold-c", "").judge(figures).holds is True


@pytest.mark.parametrize(
    ("threads", "holds"),
    [
        pytest.param(workers(1.98, 365), True, id="both"),
        pytest.param(workers(1.05, 195), False, id="one at a time"),
        pytest.param(workers(1.98, 195), False, id="half as fast"),
        pytest.param(workers(1.98, 195, SHORT_OF_CORES), True, id="half as fast, with half of the cores"),
        pytest.param(workers(1.5, 195, SHORT_OF_CORES), None, id="a busy machine does not tell"),
    ],
)
def test_threads_that_release_the_gil(threads, holds):
    assert process_or_thread.both_released(arms(threads=threads, processes=PROCESSES)).holds is holds
