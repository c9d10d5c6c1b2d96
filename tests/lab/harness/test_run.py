"""A run from outside: what is kept, what is said when it breaks off, and the document's shape."""

import json
import sys
import time

import pytest

from lab.harness import run as running
from lab.harness.checks import between
from lab.harness.experiment import ArmResult, Check, Control, Experiment
from lab.harness.observation import OTHERS, Arm, Observation, Quantity
from lab.report import page
from lab.results import RESULT

EXPERIMENT = Experiment(
    "e", "models", "Why?", "Guess", (Arm("a", "nginx", {"workers": 2}),), None,
    (Check("c", "claim", "source", "at least 1", between("a", "x", least=1), timed=True),), "Because.",
    (Control("none", "", (Arm("a"),), ("c",)),),
)  # fmt: skip
TRIAL = {
    "arm": "a",
    "repetition": 0,
    "observation": {"metrics": {"x": [2.0, "ms"]}, "shares": {}, "series": {}, "latencies": {}, "notes": []},
}


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Run EXPERIMENT with a program of the test's own inside the sandbox."""
    monkeypatch.setattr(running, "RESULTS", tmp_path / "results")

    def run(program, control=None):
        follow = running._follow
        monkeypatch.setattr(
            running,
            "_follow",
            lambda experiment, command, *rest: follow(experiment, [sys.executable, "-c", program], *rest),
        )
        found = running.run(EXPERIMENT, "quick", lambda *progress: seen.append(progress), control)
        page.write_with_index(found.folder)
        return found

    seen = run.seen = []
    return run


def test_document_has_the_agreed_shape_and_is_kept(run):
    said = [{"progress": 0.0, "doing": "a"}, TRIAL, TRIAL | {"repetition": 1}]
    found = run(f"print({chr(10).join(map(json.dumps, said))!r})")
    document = json.loads(running.in_one_line(found.document))
    assert document["verdict"] == "holds"
    (arm,) = document["arms"]
    assert arm == {
        "name": "a",
        "parameters": {"model": "nginx", "workers": 2},
        "metrics": {"x": {"median": 2.0, "min": 2.0, "max": 2.0, "unit": "ms", "n": 2}},
        "made_again": 0,
    }
    (check,) = document["checks"]
    assert {key: check[key] for key in ("claim", "source", "expected", "measured", "holds")} == {
        "claim": "claim", "source": "source", "expected": "at least 1", "measured": "x 2 ms", "holds": True,
    }  # fmt: skip
    assert document["environment"].keys() == {"kernel", "cpus", "python", "gil", "commit"}
    kept = json.loads((found.folder / RESULT).read_text())
    assert len(kept["arms"][0]["trials"]) == 2
    assert kept["command"] == "lab run e --quick"
    assert "Why?" in (found.folder / "report.html").read_text()
    assert found.folder.name in (found.folder.parent / "index.html").read_text()
    assert run.seen == [(0.0, "a")]


@pytest.mark.parametrize(("trials", "expected"), [(1, "at least 2 times"), (2, "at least 2 times, spreads apart")])
def test_of_one_trial_nothing_is_said_of_spreads(trials, expected):
    check = Check("c", "", "", "at least 2 times, spreads apart", between("a", "x"), timed=True)
    assert running.expected_of(check, {"a": ArmResult(Arm("a"), [Observation()] * trials)}) == expected


def test_trial_made_again_stands_beside_the_one_that_was_hindered(run):
    busy, free = ({"x": [x, "ms"], OTHERS: [share, ""]} for x, share in ((9.0, 0.5), (2.0, 0.0)))
    said = [TRIAL | {"observation": TRIAL["observation"] | {"metrics": metrics}} for metrics in (busy, free)]
    found = run(f"print({chr(10).join(map(json.dumps, said))!r})")
    (arm,) = json.loads((found.folder / RESULT).read_text())["arms"]
    assert arm["metrics"]["x"]["n"] == 1
    assert [[trial["metrics"]["x"][0] for trial in arm[name]] for name in ("trials", "superseded")] == [[2.0], [9.0]]
    assert "trials made again" in found.report.read_text()
    assert "superseded" not in running.in_one_line(found.document)


def test_control_is_said_in_the_command_to_repeat(run):
    found = run(f"print({json.dumps(TRIAL)!r})", EXPERIMENT.controls[0])
    assert found.document["command"] == "lab run e --quick --control none"
    assert found.document["control"] == "none"


def test_error_inside_is_told_and_no_result_is_kept(run, tmp_path):
    with pytest.raises(running.RunError, match=r"^e: no such port \(log: .*/log\)$"):
        run("""print('{"error": "no such port"}')""")
    assert not list(tmp_path.glob("results/*/result.json"))


def test_check_of_what_no_trial_measured_is_an_error_and_no_result(run, tmp_path):
    other = TRIAL | {"observation": TRIAL["observation"] | {"metrics": {"y": [2.0, "ms"]}}}
    with pytest.raises(running.RunError, match=r"did not measure 'x'.*: mend its file in lab/experiments"):
        run(f"print({json.dumps(other)!r})")
    assert not list(tmp_path.glob("results/*/result.json"))


def test_crash_inside_is_told_with_its_last_words(run):
    with pytest.raises(running.RunError, match=r"broke off with 1, ZeroDivisionError.*; mend what .*/log shows"):
        run("1 / 0")


def test_what_hangs_is_ended(run, monkeypatch):
    monkeypatch.setitem(running.LONGEST_SECONDS, "quick", 1.0)
    begun = time.monotonic()
    with pytest.raises(running.RunError, match=r"did not end within 1 s.*run it again"):
        run("import time; time.sleep(60)")
    assert time.monotonic() - begun < 30


def test_observation_comes_back_as_it_was():
    observation = Observation({"x": Quantity(1.5, "s")}, {"s": {"0": 1}}, {"t": [[0.0, 1.0]]}, {"l": "H"}, ["n"])
    fields = {
        "metrics": {"x": [1.5, "s"]},
        "shares": {"s": {"0": 1}},
        "series": {"t": [[0.0, 1.0]]},
        "latencies": {"l": "H"},
        "notes": ["n"],
    }
    assert running.read_observation(json.loads(json.dumps(fields))) == observation
