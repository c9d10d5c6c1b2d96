"""Commands of the help panel "Measuring"."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lab import state_folder
from lab.cli import results
from lab.cli.arguments import DURATION, JsonOption, ModelName, check_model, duration
from lab.cli.output import CLAIM_FAILED, INCONCLUSIVE, print_json, print_rich, refuse, say
from lab.settings import STATE_DIR
from loadtests import kinds
from services.options import MODELS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lab.peers.application import Application

PANEL = "Measuring"
app = typer.Typer()
app.add_typer(results.app, name="results", rich_help_panel=PANEL)


@app.command(rich_help_panel=PANEL)
def load(
    model: ModelName,
    extra: Annotated[
        list[str] | None,
        typer.Argument(metavar="[MODEL] -- LOCUST_OPTIONS", help="Another model; Locust's options, as they are."),
    ] = None,
    users: Annotated[int, typer.Option(min=1, help="How many users at once.")] = 50,
    rate: Annotated[float, typer.Option(min=0.01, help="Users started a second.")] = 50.0,
    seconds: Annotated[
        float, typer.Option(parser=duration(1), metavar=DURATION, help="How long: 30, 90s, 1m, 1h.")
    ] = 30.0,
    kind: Annotated[str, typer.Option(help=f"What the users do: {', '.join(kinds.KINDS)}.")] = "keep-alive",
    file: Annotated[
        Path | None,
        typer.Option(dir_okay=False, help="A locustfile of your own: its users instead of a kind.", show_default=False),
    ] = None,
    repeat: Annotated[int, typer.Option(min=1, max=100, help="Times that each model is loaded.")] = 1,
    interleave: Annotated[bool, typer.Option("--interleave", help="Two models in turns: A B A B …")] = False,
    as_json: JsonOption = False,
) -> None:
    """Put real load on a model of the running stack, and store the run. Same as `make load MODEL=…`.

    Exits with 1 if a request failed or had no response, with 3 if the generator was saturated. `-- --think 0` goes as
    fast as it can. The run is kept in .lab/results, with a page.
    """
    words = list(extra or ())
    models = [model, *([words.pop(0)] if words and words[0] in MODELS else [])]
    check_model(model)
    if kind not in kinds.KINDS:
        refuse(f"unknown user kind {kind!r}; there are {', '.join(kinds.KINDS)}")
    if file and not file.is_file():
        refuse(f"there is no file {file}: give a Python file with classes of Locust's users")
    if interleave and len(models) == 1:
        refuse("--interleave takes two models: lab load nodejs nginx --interleave")
    from lab.load import locust as measuring
    from lab.report import page

    asked = measuring.Load(
        tuple(models), users, rate, seconds, kind, file, tuple(words), repeat=repeat, interleave=interleave
    )

    raise typer.Exit(measuring.make(asked, as_json=as_json, pages=page.write_with_index))


@app.command(rich_help_panel=PANEL)
def compare(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN…",
            help="Folders of .lab/results, experiments (their last run), or JSON files such as docs/benchmark.json; "
            "RUN:GROUP is one arm or server of it.",
            show_default=False,
        ),
    ],
    page: Annotated[
        Path | None, typer.Option(dir_okay=False, help="Where the page goes [.lab/results/comparison.html].")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Compare runs with the first of them: loads, experiments or benchmarks; one alone is compared within itself.

    Example: lab compare docs/benchmark.json:nodejs docs/benchmark.json:node

    Exits with 0 if no figure differs, 1 if one does, 2 if they cannot be compared.
    """
    state_folder.require_room(page.resolve().parent if page else STATE_DIR)
    from lab.report import comparison, comparison_view

    try:
        found = comparison.of_runs(runs)
    except comparison.ComparisonError as error:
        refuse(str(error))
    path = comparison_view.write(found, page)
    if as_json:
        print_json(comparison.as_json(found))
    else:
        print_rich(comparison_view.tables(found), least_columns=120)
    say(f"plots: {path}")
    if found.differs:
        raise typer.Exit(CLAIM_FAILED)


@app.command(rich_help_panel=PANEL)
def export(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN", help="A folder of .lab/results, an experiment (its last run), or a JSON file.",
            show_default=False,
        ),
    ],
    as_csv: Annotated[bool, typer.Option("--csv", help="Comma-separated values.")] = False,
    as_parquet: Annotated[bool, typer.Option("--parquet", help="Parquet; needs --output.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="JSON, with what is known of the run.")] = False,
    output: Annotated[Path | None, typer.Option(dir_okay=False, help="The file; standard output by default.")] = None,
) -> None:  # fmt: skip
    """Write the figures of a run as rows, for pandas, DuckDB or a spreadsheet: docs/analysis.md has the columns.

    Example: lab export docs/benchmark.json --csv
    """
    from lab.records import NoRecordsError
    from lab.report import exporting
    from lab.results import ResultsError

    chosen = [name for name, given in (("csv", as_csv), ("parquet", as_parquet), ("json", as_json)) if given]
    if len(chosen) != 1:
        refuse("give one of --csv, --parquet and --json")
    if as_parquet and output is None:
        refuse("Parquet is no text: name a file with --output")
    try:
        exporting.export(run, chosen[0], output)
    except (ResultsError, NoRecordsError) as error:
        refuse(str(error))


@app.command(rich_help_panel=PANEL)
def bench(
    only: Annotated[
        list[str] | None,
        typer.Option(
            help="A part (rows, idle, watching) or a server to measure; may be repeated.",
            show_default=False,
        ),
    ] = None,
    server: Annotated[
        list[str] | None,
        typer.Option(
            help="A server to measure, a model or a peer such as real-nginx; may be repeated.",
            show_default=False,
        ),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="One round of 1 s loads: a look, not a figure.")] = False,
    rounds: Annotated[int | None, typer.Option(min=1, help="Times that every server is measured [7].")] = None,
    seconds: Annotated[
        float | None, typer.Option(parser=duration(0.5), metavar=DURATION, help="Length of each load [2].")
    ] = None,
    app_spec: Annotated[
        str | None,
        typer.Option(
            "--app",
            metavar="MODULE:ATTRIBUTE",
            show_default=False,
            help="Measure this WSGI or ASGI application behind the models, gunicorn and uvicorn.",
        ),
    ] = None,
    app_dir: Annotated[
        Path, typer.Option(exists=True, file_okay=False, help="Folder in which its module is.")
    ] = Path(),
    into: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="Put the parts that were measured into this JSON document."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure processor time a request, throughput, latency and memory beside real servers, in one run.

    Example: lab bench --only rows --server nodejs --server real-nginx --server node

    Exits with 3 on a machine with too few cores to tell.
    """
    from lab.bench import run as measuring
    from lab.peers.application import Application

    chosen = [*(only or ()), *(server or ())]
    application = Application(app_spec, app_dir.resolve()) if app_spec else None
    if application and (into or set(only or ()) & {"idle", "watching"}):
        refuse("--app measures rows only, and is not put into a document of others")
    document = measured(chosen, seconds or (1.0 if quick else 2.0), rounds or (1 if quick else 7), application)
    if into and "inconclusive" not in document:
        stored = json.loads(into.read_text(encoding="utf-8"))
        text = json.dumps(measuring.merged(stored, document), indent=2, ensure_ascii=False)
        into.write_text(f"{text}\n", encoding="utf-8")
    if as_json:
        print_json(document)
    else:
        print_rich(measuring.tables(document))
    if "inconclusive" in document:
        say(f"inconclusive: {document['inconclusive']}")
        raise typer.Exit(INCONCLUSIVE)


def measured(
    only: Sequence[str], seconds: float, rounds: int, application: Application | None = None
) -> dict[str, Any]:
    """The document of a bench, of all or only some servers and parts."""
    from lab.bench import run as measuring
    from lab.load.idle_connections import IdleError
    from lab.load.wrk import WrkError
    from lab.peers.process import PeerError

    parts = {"rows"} if application else set(only) & measuring.PARTS
    servers = [name for name in only if name not in parts] or None
    try:
        return measuring.run(servers, seconds, rounds, parts, progress=say, application=application)
    except (measuring.BenchError, WrkError, PeerError, IdleError) as error:
        refuse(str(error))


@app.command(rich_help_panel=PANEL)
def fidelity(
    quick: Annotated[bool, typer.Option("--quick", help="A dozen rows, each measured once: under a minute.")] = False,
    only: Annotated[
        list[str] | None,
        typer.Option(
            help="A real system (nginx, redis, …) whose rows to measure; may be repeated.", show_default=False
        ),
    ] = None,
    repeats: Annotated[
        int | None, typer.Option(min=1, help="Times that each row is measured [3; quick: 1].", show_default=False)
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Hold each model against the real system that it is named after, in one sandbox; store the run.

    Example: lab fidelity --only memcached

    A system that is not installed is named and left out; `make peers` gets them. Exits with 0 if every row agrees or
    says why not, 1 if one differs and should not, 2 if nothing can be compared here, 3 if one is inconclusive.
    """
    from lab.fidelity import run as comparing
    from lab.fidelity import show
    from lab.fidelity.reals import KINDS
    from lab.report import page
    from lab.sandbox.outside import SandboxError

    unknown = [name for name in only or () if name not in KINDS]
    if unknown:
        refuse(f"no real system is called {unknown[0]!r}; there are {', '.join(KINDS)}")
    try:
        folder, document = comparing.run(quick=quick, progress=show.progress(), only=only or (), repeats=repeats or 0)
    except (comparing.RunError, SandboxError) as error:
        refuse(str(error))
    page.write_with_index(folder)
    if as_json:
        print_json(document)
    else:
        print_rich([show.table(document)], least_columns=150)
    for line in show.remarks(document):
        say(line)
    say(f"page: {folder / 'report.html'}")
    if code := show.exit_code(document):
        raise typer.Exit(code)
