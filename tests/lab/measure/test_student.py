"""Student's t against the printed tables."""

import pytest

from lab.measure.student import quantile, survival


@pytest.mark.parametrize(
    ("degrees", "five_percent", "half_a_percent", "half_a_per_mille"),
    [(1, 6.314, 63.657, 636.619), (4, 2.132, 4.604, 8.610), (8, 1.860, 3.355, 5.041), (30, 1.697, 2.750, 3.646)],
)
def test_critical_values_are_those_of_the_tables(degrees, five_percent, half_a_percent, half_a_per_mille):
    assert quantile(0.05, degrees) == pytest.approx(five_percent, rel=0.0005)
    assert quantile(0.005, degrees) == pytest.approx(half_a_percent, rel=0.0005)
    assert quantile(0.0005, degrees) == pytest.approx(half_a_per_mille, rel=0.0005)


def test_with_many_degrees_it_is_the_normal_distribution():
    assert quantile(0.025, 1e6) == pytest.approx(1.95996, rel=1e-4)


def test_half_of_the_values_lie_above_zero():
    assert survival(0, 3.7) == pytest.approx(0.5)


def test_degrees_between_whole_ones_lie_between_their_quantiles():
    assert quantile(0.01, 5) < quantile(0.01, 4.5) < quantile(0.01, 4)
