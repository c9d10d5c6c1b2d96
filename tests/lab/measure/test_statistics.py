"""The chi-square test against the printed tables."""

import pytest

from lab.measure.statistics import evenness, survival


@pytest.mark.parametrize(
    ("degrees", "five_percent", "one_per_mille"),
    [(1, 3.841, 10.828), (2, 5.991, 13.816), (3, 7.815, 16.266), (4, 9.488, 18.467), (7, 14.067, 24.322)],
)
def test_critical_values_are_those_of_the_tables(degrees, five_percent, one_per_mille):
    assert survival(five_percent, degrees) == pytest.approx(0.05, rel=0.002)
    assert survival(one_per_mille, degrees) == pytest.approx(0.001, rel=0.002)


def test_even_counts_are_as_likely_as_can_be_and_one_sided_ones_hardly():
    assert evenness([100, 100, 100]) == 1
    assert evenness([300, 0, 0]) < 1e-50


@pytest.mark.parametrize("counts", [[5], [0, 0]])
def test_nothing_to_compare_is_an_error(counts):
    with pytest.raises(ValueError, match="nothing to compare"):
        evenness(counts)
