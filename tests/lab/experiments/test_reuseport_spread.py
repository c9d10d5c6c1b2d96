"""reuseport-spread's own judge, and the chances that its explanation names."""

from itertools import product

import pytest
from support import results

from lab.experiments import reuseport_spread
from lab.experiments.reuseport_spread import BY_WORKER, EVEN, FEW, ONE_SIDED


@pytest.mark.parametrize(
    ("counts", "holds"),
    [
        ([(500, 500, 500, 500)], True),
        ([(520, 480, 510, 490), (480, 520, 490, 510)], True),
        ([(2000, 0, 0, 0)], False),
        ([(600, 500, 450, 450)], False),
        # Neither of these is unlikely alone; five that lean to the same side are.
        ([(545, 485, 485, 485)], True),
        ([(545, 485, 485, 485)] * 5, False),
    ],
)
def test_uniform_is_asked_of_all_trials_together(counts, holds):
    trials = [dict(zip("0123", map(float, count), strict=True)) for count in counts]
    judge = reuseport_spread.uniform("many")
    assert judge(results.shares("many", BY_WORKER, *trials)).holds is holds


def test_chances_are_those_of_a_coin():
    tosses = [sum(toss) for toss in product((0, 1), repeat=FEW)]
    assert tosses.count(FEW // 2) / len(tosses) == EVEN
    assert sum(heads <= 1 or heads >= FEW - 1 for heads in tosses) / len(tosses) == ONE_SIDED
