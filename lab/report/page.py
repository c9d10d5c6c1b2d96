"""Makes the pages: of one run, and of all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lab.harness.experiment import CHAPTERS
from lab.report import fidelity, load_page
from lab.report.rendering import markdown, templates
from lab.results import RESULTS, StoredRun, put, run_in, runs

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

INDEX = "index.html"


def write(run: StoredRun) -> Path:
    """The page of a run that came to a result: where it is. Raises ValueError where there is none."""
    if run.document is None or run.trouble:
        raise ValueError(f"{run.name} {run.trouble}")
    of_kind = load_page.of_load if run.is_load else fidelity.html if run.is_fidelity else of_run
    put(run.page, of_kind(run.document))
    return run.page


def write_with_index(folder: Path) -> None:
    """Write the page of the run in this folder, if it came to a result, and the index beside it."""
    run = run_in(folder)
    if run.document is not None:
        write(run)
    write_index(folder.parent)


def write_index(results: Path = RESULTS) -> Path:
    """The page of all runs: where it is."""
    page = results / INDEX
    put(page, of_all(runs(results)[::-1]))
    return page


def of_run(document: dict[str, Any]) -> str:
    """HTML of a run."""
    from lab.report.plots import pictures  # matplotlib: half a second that only this page needs

    return (
        templates()
        .get_template("run.html")
        .render(
            run=document,
            metrics=list(dict.fromkeys(name for arm in document["arms"] for name in arm["metrics"])),
            pictures=pictures(document["arms"]),
            noted=[arm for arm in document["arms"] if arm["trials"] and arm["trials"][0].get("notes")],
            explanation=markdown(document["explanation"]),
        )
    )


def of_all(runs: Sequence[StoredRun]) -> str:
    """HTML of the index: what each experiment came to last, then every run."""
    return templates().get_template("index.html").render(runs=runs, latest=_latest(runs))


def _latest(runs: Sequence[StoredRun]) -> list[StoredRun]:
    """The newest result of each experiment, its full form before its quick one; controls are meant to fail."""
    newest: dict[str, StoredRun] = {}
    for run in sorted(runs, key=lambda run: (run.document or {}).get("effort") == "quick"):
        if run.document and not (run.is_load or run.is_fidelity or run.trouble or run.document.get("control")):
            newest.setdefault(run.experiment, run)
    return sorted(newest.values(), key=_place)


def _place(run: StoredRun) -> tuple[int, str]:
    chapter = (run.document or {}).get("chapter")
    return CHAPTERS.index(chapter) if chapter in CHAPTERS else len(CHAPTERS), run.experiment
