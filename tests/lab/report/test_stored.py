"""Finding runs that were kept."""

import pytest

from lab.report.stored import UnknownRunError, all_runs, named


def test_newest_first(keep, results, document):
    keep("20261123T220000.000-made-up", document)
    keep("20261123T230000.000-made-up", document)
    assert [run.name[:13] for run in all_runs(results)] == ["20261123T2300", "20261123T2200"]


def test_no_folder_no_runs(results):
    assert all_runs(results) == []


def test_named_by_folder_by_its_beginning_by_path_and_by_experiment(keep, results, document):
    keep("20261123T220000.000-made-up", document)
    keep("20261123T230000.000-made-up", document)
    for name in ("20261123T220000.000-made-up", "20261123T22", f"{results}/20261123T220000.000-made-up/"):
        assert named(name, results).name == "20261123T220000.000-made-up"
    assert named("made-up", results).name == "20261123T230000.000-made-up"


def test_no_such_run(keep, results):
    keep("20261123T220000.000-made-up")
    with pytest.raises(UnknownRunError, match="other"):
        named("other", results)


@pytest.mark.parametrize("text", ["", '{"experiment": ', "[]"])
def test_half_a_result_is_none(keep, results, text):
    (keep("20261123T220000.000-made-up") / "result.json").write_text(text)
    (run,) = all_runs(results)
    assert run.document is None
    assert (run.experiment, run.held) == ("made-up", 0)
    assert f"{run.begun:%H:%M}" == "22:00"
