"""Comparisons of stored runs, from their names to the verdict, the page and the exit code."""

from __future__ import annotations

import copy
import json
import random
import re

import pytest
from support.loads import interleaved, load
from typer.testing import CliRunner

from lab import settings
from lab.cli import app
from lab.measure.summary import summarise
from lab.report import comparison, comparison_view
from lab.report.comparison import ComparisonError, of_runs, of_stored, stored_run

BENCHMARK = settings.CHECKOUT / "docs" / "benchmark.json"


def compared(*documents):
    return of_stored([stored_run(f"run {number}", document) for number, document in enumerate(documents)])


def different(found):
    return [row.metric for row in found.rows if row.verdict == comparison.DIFFERENT]


def resampled(chance, document):
    """The load with its seconds drawn anew, in pieces of three that follow one another."""
    made = copy.deepcopy(document)
    [repeat] = made["repeats"]
    steady = repeat["series"][2:-1]
    drawn = [
        entry for _ in range(5) for start in [chance.randrange(len(steady) - 2)] for entry in steady[start : start + 3]
    ]
    repeat["series"] = [{**entry, "second": second} for second, entry in enumerate(drawn)]
    repeat["seconds"] = float(len(drawn))
    return made


def test_pairs_resampled_from_one_run_hardly_ever_differ():
    chance, run = random.Random(1), load(seconds=30, rate=120, spread=0.4)
    found = sum(compared(resampled(chance, run), resampled(chance, run)).differs for _ in range(200))
    assert found <= 6


def test_runs_of_the_same_thing_do_not_differ():
    found = compared(load(1), load(2))
    assert not found.differs
    assert {row.verdict for row in found.rows} == {comparison.SAME, comparison.UNTOLD}


@pytest.mark.parametrize("repeats", [1, 3, 5])
def test_ten_percent_more_are_found(repeats):
    pairs = [(load(seed, repeats=repeats), load(seed + 100, repeats=repeats, milliseconds=22)) for seed in range(10)]
    found = [compared(*pair) for pair in pairs]
    assert sum("p50" in different(each) for each in found) >= 9
    assert all("requests" not in different(each) for each in found)


def test_the_two_sides_of_an_interleaved_load_are_compared():
    found = compared(interleaved(1, 5, 20, 22))
    assert [side.name for side in found.sides] == ["A nodejs", "B nginx"]
    assert "p50" in different(found)
    assert not compared(interleaved(1, 5, 20, 20)).differs


def test_failures_are_a_difference():
    assert different(compared(load(1), load(2, failures=4))) == ["failed"]


def test_three_runs_are_compared_with_the_first():
    found = compared(load(1), load(2), load(3, milliseconds=40))
    [row] = [row for row in found.rows if row.metric == "p50"]
    assert [difference.differs for difference in row.differences] == [False, True]


def test_runs_of_experiments_are_compared_arm_by_arm(document):
    other = copy.deepcopy(document)
    for arm in other["arms"]:
        arm["metrics"] = {**arm["metrics"], "mean": {**arm["metrics"]["mean"]}}
        for trial in arm["trials"]:
            trial["metrics"]["mean"][0] *= 3
    found = compared(document, other)
    assert {(row.group, row.metric) for row in found.rows if row.verdict == comparison.DIFFERENT} == {
        ("shared queue", "mean"), ("<sharded>", "mean"),
    }  # fmt: skip


def test_servers_of_a_benchmark_are_chosen_by_name():
    found = of_runs([f"{BENCHMARK}:nodejs", f"{BENCHMARK}:real-nginx"])
    assert "pss_bytes" in different(found)
    assert not of_runs([str(BENCHMARK), str(BENCHMARK)]).differs


def test_on_a_busy_machine_intervals_of_one_run_are_wider():
    [quiet, busy] = (compared(load(1, others=others, spread=0.4), load(2, spread=0.4)) for others in (0, 0.4))
    [one, other] = (next(row for row in found.rows if row.metric == "p50").differences[0] for found in (quiet, busy))
    assert other.high - other.low > 1.3 * (one.high - one.low)
    assert any("40%" in note for note in busy.notes)
    assert "p50" in different(compared(load(1, others=0.4), load(2, milliseconds=22)))


def test_repeats_are_judged_on_a_busy_machine_too():
    found = compared(load(1, others=0.4, repeats=5), load(2, others=0.5, repeats=5, milliseconds=40))
    assert "p50" in different(found)


def test_rounds_of_a_benchmark_tell_more_than_their_summaries():
    values = {"one": [10, 11, 10.5, 10, 11, 10.5, 10.2], "other": [12, 13, 12.5, 12, 13, 12.4, 12.2]}
    document = {"spreads": {name: {"rate": summarise(each, "1/s")} for name, each in values.items()}}
    kept = {**document, "rounds": {name: {"rate": each} for name, each in values.items()}}
    [guessed], [known] = (compared(each).rows[0].differences for each in (document, kept))
    assert known.differs
    assert known.high - known.low < guessed.high - guessed.low


def test_runs_of_other_machines_are_noted():
    other = load(2)
    other["environment"] = {**other["environment"], "cpus": 64}
    assert any("cpus" in note for note in compared(load(1), other).notes)


@pytest.mark.parametrize(
    ("runs", "said"),
    [
        (lambda document: (load(seconds=3), load(seconds=3)), "too little to compare"),
        (lambda document: (load(),), "nothing within it to compare"),
        (lambda document: (load(), document), "two kinds"),
        (lambda document: (document, {**document, "arms": [{**document["arms"][0], "name": "x"}]}), "no other run has"),
        (lambda document: ({"rows": []}, load()), "no load, experiment or benchmark"),
        (lambda document: ([], load()), "no load, experiment or benchmark"),
    ],
)
def test_what_cannot_be_compared_is_refused(document, runs, said):
    with pytest.raises(ComparisonError, match=said):
        compared(*runs(document))


@pytest.fixture
def stored(tmp_path):
    """Write documents as files: their paths."""

    def stored(*documents):
        paths = [tmp_path / f"{number}.json" for number, _ in enumerate(documents)]
        for path, document in zip(paths, documents, strict=True):
            path.write_text(json.dumps(document), encoding="utf-8")
        return [str(path) for path in paths]

    return stored


@pytest.mark.parametrize(("milliseconds", "code"), [(20, 0), (22, 1)])
def test_exit_code_says_whether_anything_differs(stored, tmp_path, milliseconds, code):
    runs = stored(load(1), load(2, milliseconds=milliseconds))
    done = CliRunner().invoke(app, ["compare", *runs, "--json", "--page", str(tmp_path / "page.html")])
    assert done.exit_code == code
    document = json.loads(done.stdout)
    assert document["differs"] is bool(code)
    [p50] = [row for row in document["metrics"] if row["metric"] == "p50"]
    assert p50["verdict"] == ("difference" if code else "no difference")
    assert p50["differences"][0]["low"] < p50["differences"][0]["value"] < p50["differences"][0]["high"]


@pytest.mark.parametrize("words", [["no-such-run", "nor-this"], [f"{BENCHMARK}:nobody", str(BENCHMARK)]])
def test_bad_use_exits_with_2(words):
    done = CliRunner().invoke(app, ["compare", *words])
    assert done.exit_code == 2
    assert words[0].rpartition(":")[2] in done.stderr


def test_a_file_that_is_no_run_is_refused(tmp_path):
    broken = tmp_path / "broken.json"
    broken.write_text("{", encoding="utf-8")
    assert CliRunner().invoke(app, ["compare", str(broken), str(broken)]).exit_code == 2


def test_table_says_figures_interval_and_verdict(stored, tmp_path):
    runs = stored(load(1), load(2, milliseconds=22))
    done = CliRunner().invoke(app, ["compare", *runs, "--page", str(tmp_path / "page.html")])
    assert re.search(r"B +22\.\d \(.*\) +\+\d+\.\d % \(\+\d+\.\d to \+\d+\.\d\) +difference", done.stdout)
    assert "difference: mean, p50" in done.stdout
    assert str(tmp_path / "page.html") in done.stderr


def test_page_has_figures_and_plots_and_needs_nothing_else():
    html = comparison_view.html(compared(load(1), load(2, milliseconds=22)))
    assert html.count("<svg") == 2
    assert "Latency by percentile" in html
    assert "<script" not in html
    assert "run 1" in html


def test_text_of_a_run_is_no_html_in_a_comparison(document):
    html = comparison_view.html(compared(document, document))
    assert "<sharded>" not in html
