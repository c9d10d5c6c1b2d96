"""`lab`: parsing and printing only; each command's work is in a module of its own.

Those modules are imported inside the commands, so that `lab --help` need not wait for them.

Exit codes: 0 good, 1 the claim failed (`status`: not all of the stack works; `load`: requests failed; `compare`:
figures differ), 2 bad usage or environment, 3 inconclusive. Output that was asked for goes to stdout, and everything
about the run itself to stderr, so that `--json` can always be piped.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from lab.settings import CONSOLE, HOST, SettingError
from loadtests.kinds import KINDS
from services.options import MODELS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from lab.harness.experiment import Control, Experiment
    from lab.top.samples import Source

CLAIM_FAILED, BAD_USAGE, INCONCLUSIVE = 1, 2, 3
STACK, SERVERS, LOOKING, MEASURING, EXPERIMENTS = "The stack", "Models", "Looking", "Measuring", "Experiments"
NAMES = ", ".join(MODELS)


class Place(StrEnum):
    """Where the stack runs."""

    auto = "auto"
    containers = "containers"
    local = "local"
    vms = "vms"


class Lab(TyperGroup):
    """All commands: what a variable or the environment has wrong is a line, never a traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run one command."""
        try:
            return super().invoke(ctx)
        except SettingError as error:
            refuse(str(error))
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] in {"lab", "services", "loadtests"}:
                raise  # ours: a bug, not an environment
            refuse(f"the Python package {error.name!r} is missing: `make setup` installs what the lab needs")


app = typer.Typer(
    cls=Lab,
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Five ways to accept a connection, serving the same application, watched from the kernel's queues up.",
    epilog="Exit codes: 0 good, 1 the claim failed, 2 bad usage or environment, 3 inconclusive.",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"lab {version('accept-lab')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Take the options of `lab` itself."""


def _models_beginning(incomplete: str) -> list[str]:
    return [name for name in MODELS if name.startswith(incomplete)]


ModelName = Annotated[
    str,
    typer.Argument(metavar="MODEL", help=f"One of {NAMES}.", show_default=False, autocompletion=_models_beginning),
]
PlaceOption = Annotated[Place, typer.Option(help="Where the stack runs; auto takes what this machine can have.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]


# The stack.


@app.command(rich_help_panel=STACK)
def doctor(as_json: JsonOption = False) -> None:
    """Say what this machine can run, and what to do about what it cannot.

    Exits with 2 if something fails that the lab cannot do without.
    """
    from lab.stack.doctor import examine

    found = examine()
    if as_json:
        print_json([asdict(finding) for finding in found])
    else:
        from lab.stack.tables import findings

        print_rich([findings(found)])
    if any(finding.level == "fail" for finding in found):
        raise typer.Exit(BAD_USAGE)


@app.command(rich_help_panel=STACK)
def up(place: PlaceOption = Place.auto) -> None:
    """Bring the stack up: five models, metrics, load generator. Same as `make lab-up`."""
    from lab.stack import playbook

    raise typer.Exit(playbook.up(place.value))


@app.command(rich_help_panel=STACK)
def down(
    place: PlaceOption = Place.auto,
    remove: Annotated[
        bool, typer.Option("--remove", help="With --place vms: take everything off the hosts that the lab brought.")
    ] = False,
) -> None:
    """End the stack; nothing of it stays behind. Same as `make lab-down`."""
    from lab.stack import playbook

    raise typer.Exit(playbook.down(place.value, remove=remove))


@app.command(rich_help_panel=STACK)
def status(place: PlaceOption = Place.auto, as_json: JsonOption = False) -> None:
    """Show what runs where, whether it works, and what it costs.

    Exits with 1 if nothing runs or a part that should run does not work.
    """
    from lab.stack.status import parts

    found = [part for part in parts() if place in {Place.auto, part.place}]
    if as_json:
        print_json([asdict(part) for part in found])
    else:
        from lab.stack.tables import parts as table

        print_rich([table(found)])
    running = [part for part in found if part.pid]
    if not running:
        say("nothing runs: `lab up` (or `make lab-up`) starts the stack")
    # A part that this machine cannot have is absent, and no fault.
    troubled = [part.name for part in found if part.state != "absent" and part.health != "ok"]
    if running and troubled:
        say(f"not well: {', '.join(troubled)}; `lab up` starts what is down, the logs are in .lab/logs")
    if not running or troubled:
        raise typer.Exit(CLAIM_FAILED)


grafana = typer.Typer(no_args_is_help=True, help="Push dashboards into any Grafana, and mark moments on its time axis.")
app.add_typer(grafana, name="grafana", rich_help_panel=STACK)

GrafanaUrl = Annotated[
    str | None, typer.Option("--url", help="Grafana's root URL [$LAB_GRAFANA_URL, or the stack's].", show_default=False)
]
GrafanaToken = Annotated[
    str | None, typer.Option("--token", help="A service account's token [$LAB_GRAFANA_TOKEN].", show_default=False)
]
GrafanaUser = Annotated[
    str | None,
    typer.Option("--user", metavar="NAME:PASSWORD", help="Instead of a token [$LAB_GRAFANA_USER].", show_default=False),
]


@grafana.command()
def sync(
    url: GrafanaUrl = None,
    token: GrafanaToken = None,
    user: GrafanaUser = None,
    prometheus_url: Annotated[
        str | None,
        typer.Option(
            help="Prometheus as seen from Grafana [$LAB_GRAFANA_PROMETHEUS_URL, or the stack's].", show_default=False
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Push the Prometheus data source, a folder and every dashboard. A second run changes nothing.

    Exits with 2 if Grafana refuses something.
    """
    from lab.grafana import sync as syncing
    from lab.grafana.api import Grafana, GrafanaError

    target = Grafana.from_settings(url, token, user)
    try:
        boards = syncing.read_dashboards()
        prometheus = syncing.prometheus_seen_from_grafana(prometheus_url)
        items = list(syncing.sync(target, boards, prometheus, dry_run=dry_run))
    except (GrafanaError, syncing.DashboardError) as error:
        refuse(str(error))
    changes = {syncing.CREATED, syncing.UPDATED}
    if as_json:
        print_json({"grafana": target.url, "dry_run": dry_run, "items": [asdict(item) for item in items]})
    else:
        for item in items:
            outcome = f"to be {item.outcome}" if dry_run and item.outcome in changes else item.outcome
            typer.echo(f"{item.kind:<12} {item.uid:<24} {outcome:<14} {item.detail}".rstrip())
    if not boards:
        say("there is no dashboard below dashboards/ yet: nothing but the data source and the folder to push")
    changed = sum(item.outcome in changes for item in items)
    say(f"{changed or 'nothing'} {'to change' if dry_run else 'changed'} at {target.url}")
    if any(item.outcome == syncing.REFUSED for item in items):
        raise typer.Exit(BAD_USAGE)


@grafana.command()
def annotate(
    text: Annotated[str, typer.Argument(metavar="TEXT", help="What happened.", show_default=False)],
    tag: Annotated[list[str] | None, typer.Option(help="A tag beside `lab`; may be repeated.")] = None,
    since: Annotated[str, typer.Option("--from", metavar="TIME", help="ISO 8601, epoch seconds, or -5m.")] = "now",
    until: Annotated[
        str | None, typer.Option("--to", metavar="TIME", help="Mark the region up to here.", show_default=False)
    ] = None,
    dashboard: Annotated[
        str | None, typer.Option(metavar="UID", help="Show it on this dashboard only.", show_default=False)
    ] = None,
    panel: Annotated[
        int | None, typer.Option(metavar="ID", help="Show it on this panel of it only.", show_default=False)
    ] = None,
    url: GrafanaUrl = None,
    token: GrafanaToken = None,
    user: GrafanaUser = None,
    as_json: JsonOption = False,
) -> None:
    """Mark a moment, or a region, on the time axis of the dashboards, and print the annotation's id.

    Example: lab grafana annotate "herd" --tag nginx --from -5m --to now
    """
    from lab.grafana.annotate import span, tagged
    from lab.grafana.api import Grafana, GrafanaError

    if not text.strip():
        refuse("the text is empty: say what happened")
    if panel is not None and dashboard is None:
        refuse("--panel needs --dashboard: a panel's id means something on its dashboard only")
    target, tags = Grafana.from_settings(url, token, user), tagged(tag or ())
    try:
        start, end = span(since, until)
        number = target.annotate(text, tags, start, end, dashboard=dashboard, panel=panel)
    except (ValueError, GrafanaError) as error:
        refuse(str(error))
    if as_json:
        print_json({"grafana": target.url, "id": number, "start": start, "end": end, "tags": tags})
    else:
        typer.echo(number)


# Models.


@app.command(rich_help_panel=SERVERS)
def models(as_json: JsonOption = False) -> None:
    """Show who listens, accepts, reads, executes and writes in each model, and what its options teach."""
    from lab import models_table

    if as_json:
        print_json(models_table.document())
    else:
        print_rich(models_table.tables())


@app.command(
    rich_help_panel=SERVERS,
    # What follows the model, --help too, is the server's.
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
def serve(
    model: ModelName,
    options: Annotated[
        list[str] | None,
        typer.Argument(metavar="OPTIONS", help="The model's options: `lab serve MODEL --help` lists them."),
    ] = None,
) -> None:
    """Run one server in the foreground until Ctrl-C. Same as `python -m services MODEL`.

    Example: lab serve nginx --port 8000 --admin-port 9100 --workers 2 --wakeup herd

    Watch it with: lab top --url http://127.0.0.1:9100
    """
    if model.startswith("-"):
        refuse(f"the model comes before its options: lab serve MODEL {model} …, where MODEL is one of {NAMES}")
    check_model(model)
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", "services", model, *(options or [])])


@app.command("set", rich_help_panel=SERVERS)
def set_options(
    model: ModelName,
    settings: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="OPTION=VALUE", help="What to change; `lab models` says what it teaches.", show_default=False
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Change options of a running model. Its workers finish what they have begun, and start again.

    Example: lab set nginx workers=2 wakeup=herd

    The change lasts until the model is started anew; for good it belongs in provisioning/group_vars/all.yml.
    """
    from lab.stack import control

    check_model(model)
    try:
        in_force = control.change(model, settings or [])
        changed = control.read_settings(model, settings or [])
    except control.ControlError as error:
        refuse(str(error))
    if as_json:
        print_json(in_force)
    else:
        shown = (f"--{name} {in_force[name.replace('-', '_')]}" for name in changed)
        typer.echo(f"{model} now runs with {' '.join(shown)}")


@app.command(rich_help_panel=SERVERS)
def chaos(
    deed: Annotated[str, typer.Argument(metavar="kill|pause|resume", help="What to do.", show_default=False)],
    model: ModelName,
    worker: Annotated[
        int | None, typer.Option(min=0, help="Only this worker, where workers are processes.", show_default=False)
    ] = None,
) -> None:
    """Hurt a running model: end it at once, stop it where it is, or let it go on.

    Example: lab chaos pause reuseport --worker 0
    """
    from lab.stack.chaos import ChaosError, Deed, hurt

    check_model(model)
    if deed not in list(Deed):
        refuse(f"{deed!r}: give one of {', '.join(Deed)}")
    try:
        typer.echo(hurt(Deed(deed), model, worker))
    except ChaosError as error:
        refuse(str(error))


# Looking.


@app.command(rich_help_panel=LOOKING)
def top(
    interval: Annotated[float, typer.Option(min=0.1, max=60, help="Seconds between two looks.")] = 1.0,
    url: Annotated[
        list[str] | None,
        typer.Option(
            help="Admin URL of a server to watch instead of the stack's; may be repeated.", show_default=False
        ),
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Print one sample and end.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The same, as JSON.")] = False,
) -> None:
    """Watch the running models: queues, connections, requests a second, stages, workers.

    Ctrl-C ends. With --once or --json, exits with 2 if no model answers.
    """
    from rich.console import Console

    from lab.top import live

    sources = sources_of(url)
    console = Console()
    if not (once or as_json or console.is_terminal):
        say("this is not a terminal: one sample, as with --once")
    if once or as_json or not console.is_terminal:
        print_sample(sources, interval, as_json=as_json)
    else:
        live(sources, interval, console)


def sources_of(urls: Sequence[str] | None) -> list[Source]:
    """What to watch: the servers at `urls`, or else the stack."""
    from lab.top import stack_sources
    from lab.top.samples import source_of

    try:
        return [source_of(url) for url in urls] if urls else stack_sources()
    except ValueError as error:
        refuse(str(error))


def print_sample(sources: Sequence[Source], interval: float, *, as_json: bool) -> None:
    """One sample on stdout."""
    from lab import top as watching
    from lab.top.view import COLUMNS, HINT, Screen, render

    readings = watching.once(sources, interval)
    if as_json:
        typer.echo(watching.document(readings, interval))
    else:
        print_rich([render(readings, Screen(interval, live=False))], least_columns=COLUMNS)
    if not any(reading.up for reading in readings):
        refuse(HINT)


@app.command(rich_help_panel=LOOKING)
def console(
    host: Annotated[
        str, typer.Option(help="Address to listen on: who can reach it can put load on the models.")
    ] = HOST,
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Port [$LAB_CONSOLE_PORT, or 8080].", show_default=False)
    ] = None,
    name: Annotated[
        list[str] | None,
        typer.Option(
            metavar="HOSTNAME",
            help="By which browsers may call it, beside addresses and localhost; may be repeated.",
            show_default=False,
        ),
    ] = None,
    idle_interval: Annotated[
        float, typer.Option(min=0.5, max=60, help="Seconds between two looks at the models while nobody looks.")
    ] = 1.0,
) -> None:
    """Show the running models in a browser: their anatomy with live figures, charts, load, options, experiments.

    It needs neither Prometheus nor Grafana. The stack has one already; this is the page alone. Ctrl-C ends.
    """
    from lab.console.page import serve as serve_page
    from lab.stack.ports import explain, listening, refusal

    number = port or CONSOLE.number
    if code := refusal(number, host):
        refuse(f"port {number} {explain(code, listening().get(number))}: move it with --port or {CONSOLE.variable}")
    serve_page(host, number, name or (), idle_interval)


# Measuring.


@app.command(rich_help_panel=MEASURING)
def load(
    model: ModelName,
    extra: Annotated[
        list[str] | None,
        typer.Argument(metavar="[MODEL] -- LOCUST_OPTIONS", help="Another model; Locust's options, as they are."),
    ] = None,
    users: Annotated[int, typer.Option(min=1, help="How many users at once.")] = 50,
    rate: Annotated[float, typer.Option(min=0.01, help="Users started a second.")] = 50.0,
    seconds: Annotated[float, typer.Option(min=1, help="How long.")] = 30.0,
    kind: Annotated[str, typer.Option(help=f"What the users do: {', '.join(KINDS)}.")] = "keep-alive",
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
    if kind not in KINDS:
        refuse(f"unknown user kind {kind!r}; there are {', '.join(KINDS)}")
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


results_app = typer.Typer(no_args_is_help=True, help="List, pin and remove the runs that are kept in .lab/results.")
app.add_typer(results_app, name="results", rich_help_panel=MEASURING)


@results_app.command("list")
def list_results(as_json: JsonOption = False) -> None:
    """List the stored runs, the oldest first; those that cannot be read with the reason."""
    from lab import results

    found = [
        {"run": run.id, "kind": run.kind, "pinned": run.pinned,
         "trouble": results.too_new(run.document) if run.document else "has no result: interrupted, or still running"}
        for run in results.runs()
    ]  # fmt: skip
    if as_json:
        print_json(found)
        return
    for each in found:
        typer.echo(
            f"{each['run']:<48} {each['kind']:<11} {'pinned ' if each['pinned'] else ''}{each['trouble']}".rstrip()
        )


@results_app.command()
def prune(
    keep: Annotated[
        int | None, typer.Option(min=0, help="How many runs to keep [$LAB_RESULTS_KEEP, or 200].", show_default=False)
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
) -> None:
    """Remove the oldest runs beyond the bound of number and size (2 GB); pinned runs stay."""
    from lab import results
    from lab.report import page

    removed = results.prune(keep, dry_run=dry_run)
    for name in removed:
        typer.echo(name)
    say(f"{len(removed)} {'to remove' if dry_run else 'removed'}")
    if removed and not dry_run:
        page.write_index()


@results_app.command()
def pin(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A folder of .lab/results.", show_default=False)],
    off: Annotated[bool, typer.Option("--off", help="Let it be removed again.")] = False,
) -> None:
    """Keep a run however many come after it."""
    from lab import results

    try:
        typer.echo(results.pin(run, pinned=not off))
    except results.ResultsError as error:
        refuse(str(error))


@app.command(rich_help_panel=MEASURING)
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


@app.command(rich_help_panel=MEASURING)
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


@app.command(rich_help_panel=MEASURING)
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
    seconds: Annotated[float | None, typer.Option(min=0.5, help="Length of each load [2].")] = None,
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

    chosen = [*(only or ()), *(server or ())]
    document = measured(chosen, seconds or (1.0 if quick else 2.0), rounds or (1 if quick else 7))
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


def measured(only: Sequence[str], seconds: float, rounds: int) -> dict[str, Any]:
    """The document of a bench, of all or only some servers and parts."""
    from lab.bench import run as measuring
    from lab.load.idle_connections import IdleError
    from lab.load.wrk import WrkError
    from lab.peers.process import PeerError

    parts = set(only) & measuring.PARTS
    servers = [name for name in only if name not in parts] or None
    try:
        return measuring.run(servers, seconds, rounds, parts, progress=say)
    except (measuring.BenchError, WrkError, PeerError, IdleError) as error:
        refuse(str(error))


@app.command("list", rich_help_panel=EXPERIMENTS)
def list_experiments(as_json: JsonOption = False) -> None:
    """Show the experiments: the question of each, by chapter, and what is often said and measured otherwise."""
    from lab.experiments import all_experiments
    from lab.report.theory import corrections_of, often_said

    if as_json:
        fields = ("name", "chapter", "question", "predict")
        print_json(
            [
                {field: getattr(found, field) for field in fields}
                | {"corrects": [proof.document() for proof in corrections_of(found)]}
                for found in all_experiments()
            ]
        )
    else:
        from lab.harness.tables import experiments

        said = {found.name: [often_said(proof) for proof in corrections_of(found)] for found in all_experiments()}
        print_rich([experiments(all_experiments(), said)])


@app.command(rich_help_panel=EXPERIMENTS)
def run(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME…", help="Experiments; `lab list` shows them.", show_default=False),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All of them, and one table at the end.")] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="The same checks on shorter trials: 20 s at most each.")
    ] = False,
    control: Annotated[
        str | None,
        typer.Option(help="Take the cause away: the claim must then fail (exit code 1).", show_default=False),
    ] = None,
    controls: Annotated[
        bool, typer.Option("--controls", help="Every control in turn; exits with 0 if all that they name fails.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document a line, one line an experiment.")] = False,
    progress: Annotated[
        bool, typer.Option("--progress", help="With --json: progress as JSON lines on stderr.")
    ] = False,
) -> None:
    """Prove a claim in a throwaway sandbox, with the kernel's own counters.

    Example: lab run busiest-worker --quick

    Exits with 0 if every claim holds, 1 if one fails, 2 if one cannot be tried here, 3 if one is inconclusive.
    """
    from lab.harness import show
    from lab.report import page

    if everything == bool(names):
        refuse("give the names of experiments, or --all; `lab list` shows them")
    if control and (everything or controls or len(names or ()) > 1):
        refuse("--control belongs to one experiment: name just that one, or give --controls")
    chosen, without = declared(names or (), control)
    form = show.Form("quick" if quick else "full", as_json, progress, page.write_with_index)
    raise typer.Exit(show.run_controls(chosen, form) if controls else show.run(chosen, form, without))


def declared(names: Sequence[str], control: str | None) -> tuple[Sequence[Experiment], Control | None]:
    """The experiments of these names, or all, and the control of the first."""
    from lab.experiments import UnknownExperimentError, all_experiments, control_of, named

    try:
        chosen = [named(name) for name in names] or all_experiments()
        return chosen, control_of(chosen[0], control) if control else None
    except UnknownExperimentError as error:
        refuse(str(error))


@app.command(rich_help_panel=EXPERIMENTS)
def report(
    runs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="RUN…", help="Folders of .lab/results, or experiments: their last run.", show_default=False
        ),
    ] = None,
) -> None:
    """Make the pages of runs anew, all of them or those named, and the index; say where they are.

    Example: lab report busiest-worker
    """
    from lab.report import page, stored

    try:
        chosen = [stored.named(name) for name in runs or ()] or stored.all_runs()
    except stored.UnknownRunError as error:
        refuse(str(error))
    interrupted = [run.name for run in chosen if run.document is None]
    pages = [page.write(run) for run in chosen if run.document and not run.trouble]
    for run in chosen:
        if run.trouble:
            say(f"{run.name} {run.trouble}")
    if interrupted:
        say(f"no result, so no page: {', '.join(interrupted)} (interrupted, or still running)")
    if not chosen:
        refuse("there is no run yet: `lab run NAME` makes one, `lab list` shows the names")
    index = page.write_index()
    for path in pages if runs else ():
        typer.echo(path)
    typer.echo(index)


# Printing.


def check_model(name: str) -> None:
    """Refuse a model that there is not."""
    if name not in MODELS:
        refuse(f"no model is called {name!r}; there are {NAMES} (`lab models` shows them)")


def refuse(text: str) -> NoReturn:
    """Say why not, and what to do next, and exit with 2."""
    say(text)
    raise typer.Exit(BAD_USAGE)


def say(text: str) -> None:
    """A line about the run itself."""
    typer.echo(f"lab: {text}", err=True)


def print_json(document: object) -> None:
    """One document, alone on stdout."""
    typer.echo(json.dumps(document, indent=2, ensure_ascii=False))


def print_rich(things: Iterable[Any], least_columns: int = 0) -> None:
    """Tables and texts, in colour where the terminal has it.

    A pipe counts as 80 columns wide, unless COLUMNS says otherwise; `least_columns` is for what needs more.
    """
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console.width = max(console.width, least_columns)
    for thing in things:
        console.print(thing)
