"""Rows of stored runs: their schema, which docs/analysis.md explains, and the programs that read them there."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec

import pytest
from support.loads import interleaved, load
from typer.testing import CliRunner

from lab import records, settings
from lab.cli import app
from lab.measure.summary import summarise
from lab.records import ALWAYS, COLUMNS, NoRecordsError, rows

DOCS = settings.CHECKOUT / "docs"
ANALYSIS = (DOCS / "analysis.md").read_text(encoding="utf-8")
NOTEBOOK = DOCS / "notebooks" / "runs.py"
EXPERIMENT = DOCS / "experiments" / "results" / "busiest-worker.json"


def require_package(name):
    """Skip without a package of the extra `analysis`, and fail in CI."""
    if find_spec(name) is None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(f"{name}: pip install -e .[analysis]")


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "stored.json"
    path.write_text(json.dumps(load(repeats=2)), encoding="utf-8")
    return path


def exported(*words):
    done = CliRunner().invoke(app, ["export", *map(str, words)])
    assert done.exit_code == 0, done.stderr
    return done.stdout


def test_schema_is_the_one_that_the_docs_explain():
    table = re.findall(r"^\| `(\w+)` \| (\w+) \|", ANALYSIS, re.MULTILINE)
    assert table == [(name, kind.__name__) for name, kind in COLUMNS.items()]
    assert f"`schema` ({records.SCHEMA})" in ANALYSIS


@pytest.mark.parametrize(
    "document",
    [load(), interleaved(1, 2, 20, 22), EXPERIMENT, DOCS / "benchmark.json", DOCS / "fidelity.json"],
    ids=lambda each: type(each).__name__,
)
def test_every_row_has_the_columns_and_their_types(document):
    found = rows(document if isinstance(document, dict) else json.loads(document.read_text(encoding="utf-8")), "name")
    assert found
    for row in found:
        assert list(row) == list(COLUMNS)
        assert all(row[name] is not None for name in ALWAYS)
        assert all(value is None or type(value) is COLUMNS[name] for name, value in row.items()), row


def test_load_has_rows_for_each_second_and_for_the_whole():
    found = rows(load(repeats=2, seconds=12, rate=40), "name")
    whole = {row["metric"]: row["value"] for row in found if row["second"] is None and row["repeat"] == 1}
    assert (whole["requests"], whole["failures"], whole["no_response"]) == (12 * 40 + 13, 0, 0)
    assert whole["latency_p50"] == pytest.approx(0.020, rel=0.05)
    assert whole["server_cpu_seconds"] == pytest.approx(493 * 25e-6)
    seconds = [row for row in found if row["metric"] == "requests" and row["second"] is not None and row["repeat"] == 0]
    assert [row["value"] for row in seconds] == [40.0] * 12 + [13.0]


def test_sides_of_an_interleaved_load_are_variants():
    found = rows(interleaved(1, 2, 20, 22), "name")
    assert {(row["variant"], row["model"]) for row in found} == {("A", "nodejs"), ("B", "nginx")}


def test_experiment_has_rows_for_each_trial(document):
    del document["arms"][0]["trials"][0]["series"]
    found = rows({**document, "arms": document["arms"][:1]}, "name")
    means = [row for row in found if row["metric"] == "mean"]
    assert [(row["repeat"], row["value"], row["unit"]) for row in means] == [
        (number, pytest.approx(value), "s") for number, value in enumerate((0.0015, 0.0016, 0.0017))
    ]
    assert {row["second"] for row in found if row["metric"] == "accept queue 0"} >= {0.0, 2.9}


def test_summaries_have_base_units_and_their_statistic():
    document = {"spreads": {"nodejs": {"p99_ms": summarise([3.0, 3.29, 4.0], "ms")}}}
    [row] = [row for row in rows(document, "name") if row["statistic"] == "median"]
    assert (row["subject"], row["metric"], row["unit"], row["value"]) == ("nodejs", "p99", "s", pytest.approx(0.00329))


def test_rounds_that_were_kept_take_the_place_of_their_summary():
    document = {"spreads": {"node": {"p50_ms": summarise([1, 2, 3], "ms")}}, "rounds": {"node": {"p50_ms": [1, 2, 3]}}}
    found = [(row["metric"], row["repeat"], row["statistic"], row["value"]) for row in rows(document, "name")]
    assert found == [("p50", number, "value", (number + 1) / 1000) for number in range(3)]


@pytest.mark.parametrize("strange", [{}, [], None, {"kind": "load"}])
def test_other_documents_have_no_rows(strange):
    with pytest.raises(NoRecordsError):
        rows(strange, "name")


def test_csv_and_json_have_the_same_rows(file):
    document = json.loads(exported(file, "--json"))
    assert (document["schema"], document["columns"]) == (records.SCHEMA, list(COLUMNS))
    table = list(csv.DictReader(exported(file, "--csv").splitlines()))
    assert [float(row["value"]) for row in table] == [row["value"] for row in document["rows"]]
    assert [row["second"] for row in table] == [
        "" if row["second"] is None else str(row["second"]) for row in document["rows"]
    ]


def test_parquet_has_the_schema_s_types(file, tmp_path):
    require_package("pyarrow")
    import pyarrow.parquet

    exported(file, "--parquet", "--output", tmp_path / "load.parquet")
    table = pyarrow.parquet.read_table(tmp_path / "load.parquet")
    names = {str: "string", int: "int64", float: "double"}
    assert {field.name: str(field.type) for field in table.schema} == {
        name: names[kind] for name, kind in COLUMNS.items()
    }
    assert table.num_rows == len(rows(load(repeats=2), "name"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["no-such-run", "--csv"], "no-such-run"),
        ([str(EXPERIMENT)], "give one of"),
        ([str(EXPERIMENT), "--csv", "--json"], "give one of"),
        ([str(EXPERIMENT), "--parquet"], "--output"),
        ([str(EXPERIMENT), "--csv", "--output", "/nowhere/x.csv"], "cannot be written"),
        ([str(DOCS / "containers.json"), "--csv"], "no load, experiment or benchmark"),
    ],
)
def test_bad_use_is_refused_with_2(words, said):
    done = CliRunner().invoke(app, ["export", *words])
    assert done.exit_code == 2
    assert said in done.stderr


def code_of(language):
    return re.findall(rf"^```{language}\n(.*?)^```", ANALYSIS, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("code", code_of("python"), ids=lambda code: code.split()[1])
def test_examples_of_the_docs_run(code, file, tmp_path):
    for package in ("pandas", "duckdb", "pyarrow"):
        require_package(package)
    commands = [line.split()[1:] for block in code_of("sh") for line in block.splitlines()]
    for words in commands:
        exported(*[str(file) if word == "RUN" else word for word in words[1:-1]], tmp_path / words[-1])
    (tmp_path / "docs").symlink_to(DOCS)
    assert run(["-c", code], tmp_path).strip()


def test_notebook_runs():
    require_package("marimo")
    run([str(NOTEBOOK)], DOCS)


def run(words, folder):
    done = subprocess.run(
        [sys.executable, *words], cwd=folder, env={**os.environ, "PYTHONPATH": str(settings.CHECKOUT), "MPLBACKEND": "agg"},
        capture_output=True, text=True, timeout=50,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout
