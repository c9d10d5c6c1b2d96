"""Pictures: in the page's colours, whole bars, and nothing where nothing was observed."""

import re

import pytest

from lab.report import plots


def test_no_stand_in_colour_is_left(document):
    for picture in plots.pictures(document["arms"]):
        assert not any(stand_in in picture.svg for stand_in in plots.COLOURS)
        assert "var(--series-1)" in picture.svg
        assert "var(--ink)" in picture.svg


def test_text_stays_text(document):
    (shares, *_) = plots.pictures(document["arms"])
    assert re.search(r"<text[^>]*>shared queue</text>", shares.svg)


def test_bars_of_all_panels_fit_their_common_axis(document):
    bars = {arm["name"]: plots._bars(arm, "requests by worker") for arm in document["arms"]}
    figure = plots._bar_panels(bars)
    _, right = figure.axes[0].get_xlim()
    assert right >= max(max(values) for panel in bars.values() for values in panel.values())
    assert {axes.get_xlim() for axes in figure.axes} == {(0, right)}


def test_a_key_that_a_trial_does_not_have_counts_as_none():
    arm = {"trials": [{"shares": {"s": {"0": 5}}}, {"shares": {"s": {"0": 4, "1": 1}}}, {"shares": {}}]}
    assert plots._bars(arm, "s") == {"0": [5, 4], "1": [0.0, 1]}


def test_latencies_of_all_trials_come_together(document):
    assert plots._merged(document["arms"][0], "all").count == 6000


def test_latencies_as_sent_stand_beside_the_corrected_ones(document):
    for arm in document["arms"]:
        for trial in arm["trials"]:
            trial["latencies"]["all, as sent"] = trial["latencies"]["all"]
    (picture,) = (picture for picture in plots.pictures(document["arms"]) if picture.title.startswith("Latencies"))
    assert "coordinated omission" in picture.caption


def test_nothing_observed_nothing_drawn():
    assert plots.pictures([{"name": "a", "metrics": {}, "trials": [{"metrics": {}}]}]) == []


def test_a_share_by_hundreds_of_names_is_not_drawn():
    many = {str(number): 1 for number in range(plots.BARS_A_CHART + 1)}
    assert (
        plots.pictures([{"name": "a", "metrics": {}, "trials": [{"metrics": {}, "shares": {"by client": many}}]}]) == []
    )


def test_places_for_panels_that_there_are_not_stay_empty():
    figures = [
        plots._bar_panels({name: {"0": [1, 2]} for name in "abcd"}),
        plots._dots({name: {"arm": [1.0, 2.0]} for name in "abcd"}, ["arm"]),
    ]
    for figure in figures:
        assert [axes.get_visible() for axes in figure.axes] == [True] * 4 + [False] * 2


def test_bars_with_names_of_their_own_keep_them():
    figure = plots._bar_panels({"a": {"0": [1], "1": [2]}, "b": {"main": [3]}})
    assert [[label.get_text() for label in axes.get_yticklabels()] for axes in figure.axes] == [["0", "1"], ["main"]]


def test_a_unit_in_a_title_stays_what_it_is():
    arm = {"name": "a", "metrics": {}, "trials": [{"metrics": {}, "shares": {"MiB": {"store": 1}}}]}
    assert [picture.title for picture in plots.pictures([arm])] == ["MiB"]


def test_what_is_the_same_in_every_trial_is_no_picture():
    summary = {"unit": ""}
    arm = {"name": "a", "metrics": {"x": summary, "y": summary}, "trials": []}
    arm["trials"] = [{"metrics": {"x": [1.0, ""], "y": [trial, ""]}} for trial in range(2)]
    (picture,) = plots.pictures([arm])
    assert ">y</text>" in picture.svg
    assert ">x</text>" not in picture.svg


@pytest.mark.filterwarnings("error")
def test_arms_that_measure_different_things_are_drawn_beside_each_other():
    def arm(name, metric):
        trials = [{"metrics": {metric: [value, "ms"]}} for value in (1.0, 2.0)]
        return {"name": name, "metrics": {metric: {"unit": "ms"}}, "trials": trials}

    (picture,) = plots.pictures([arm("one", "connect"), arm("other", "accept")])
    assert all(text in picture.svg for text in ("connect, ms", "accept, ms", "one", "other"))
