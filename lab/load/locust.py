"""Real load on models of the running stack: Locust without its page. Its figures are shown, and stored as a run.

A run has one repeat or several, on one model or on two in turns; each repeat is a Locust of its own. While the stack's
Prometheus runs, it finds each by a file of targets (`lab.load.seen`), under the label `run`.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table

from lab import results, settings
from lab.load.seen import load_address
from lab.load.served import Watch
from lab.measure import environment
from lab.measure.foreign_cpu import Others
from lab.measure.latencies import HEADINGS, quantiles_ms, row_ms
from lab.peers.process import accepts, die_with, free_port
from lab.records import LOAD
from lab.stack import beside, containers, status
from loadtests.histogram import SHARES, Histogram
from loadtests.kinds import KINDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    Pages = Callable[[Path], object]

LOCUSTFILE = settings.CHECKOUT / "loadtests" / "locustfile.py"
USER_FILE = "LAB_USER_FILE"
"""Names the file whose user classes take the place of the lab's."""
SATURATED = 0.9
"""Share of a core above which the generator rather than the server decides the figures."""
GOOD, FAILURES, BAD_USAGE, SATURATED_EXIT = 0, 1, 2, 3
AS_DUE = ", as due"
OMISSION = (
    "“as due” counts from when a request was due at its pace, and those that were never sent because an earlier one "
    "took so long: the other row hides them (coordinated omission)."
)
MOST_REPEATS = 100
STORED_OPTIONS = ("users", "rate", "seconds", "kind", "file", "extra", "repeat", "interleave")


@dataclass(frozen=True, slots=True)
class Load:
    """A load as it was asked for: `users` of `kind`, or of the classes in `file`; `rate` of them start a second."""

    models: tuple[str, ...]
    users: int = 50
    rate: float = 50.0
    seconds: float = 30.0
    kind: str = "keep-alive"
    file: Path | None = None
    extra: tuple[str, ...] = ()
    """Goes to Locust as it is."""
    repeat: int = 1
    interleave: bool = False
    """A B A B … rather than A A B B …"""

    def turns(self) -> Iterator[tuple[int, str, str | None]]:
        """Yield (number of the repeat, model, A or B or None) of each Locust, in order."""
        sides = [
            (name, chr(ord("A") + place) if len(self.models) > 1 else None) for place, name in enumerate(self.models)
        ]
        if self.interleave:
            yield from ((number, *side) for number in range(self.repeat) for side in sides)
        else:
            yield from ((number, *side) for side in sides for number in range(self.repeat))

    def words(self, file: Path | None) -> list[str]:
        """Return the arguments of `lab` for the same load."""
        words = ["load", *self.models, "--users", str(self.users), "--rate", f"{self.rate:g}"]
        words += ["--seconds", f"{self.seconds:g}"]
        words += ["--file", str(file)] if file else ["--kind", self.kind]
        words += ["--repeat", str(self.repeat)] if self.repeat > 1 else []
        words += ["--interleave"] if self.interleave else []
        return [*words, "--", *self.extra] if self.extra else words


@dataclass(slots=True)
class Turn:
    """One Locust that came to its end: its own result, its exit code, and what the server did meanwhile."""

    repeat: int
    model: str
    variant: str | None
    result: dict[str, Any]
    code: int
    server: dict[str, Any] = field(default_factory=dict)
    others: float = 0.0
    """Share of the processors that other programs had."""


class LoadError(Exception):
    """No load can be made; the text says why and what to do."""


def make(load: Load, *, as_json: bool = False, pages: Pages = lambda _: None) -> int:
    """Make a load, show it, and store it; `pages` is given its folder, to write its page and the index.

    Returns 0 when nothing failed, 1 when something did, 2 when there is nothing to load or no such kind, 3 when the
    generator was saturated, so that the figures are its own.
    """
    if all(_belongs_into_the_network(model, load.extra) for model in load.models):
        return _make_in_the_network(load, as_json=as_json)
    errors = Console(stderr=True)
    try:
        _check(load)
        made = _made(load, errors, Console(stderr=True) if as_json else Console(), pages)
    except (LoadError, results.ResultsError) as error:
        errors.print(str(error), style="red", highlight=False, soft_wrap=True)
        return BAD_USAGE
    if as_json:
        print(json.dumps(made, ensure_ascii=False))
    return int(made["exit_code"])


def _made(load: Load, errors: Console, console: Console, pages: Pages) -> dict[str, Any]:
    begun = datetime.now(UTC)
    folder = results.new_folder(f"load-{'-'.join(load.models)}", begun)
    turns: list[Turn] = []
    started = time.monotonic()
    try:
        for number, model, variant in load.turns():
            turn = one(replace(load, models=(model,)), f"{folder.name}-{len(turns)}", number, variant)
            turns.append(turn)
            report(turn.result, console)
            if turn.code not in (0, 1):
                break
    finally:
        if not turns:
            folder.rmdir()
    made = describe(load, folder.name, begun, time.monotonic() - started, turns)
    results.write(folder, made)
    errors.print(f"kept: {folder}", style="dim", highlight=False, soft_wrap=True)
    mark_in_grafana(made)
    results.prune()
    pages(folder)
    return made


def mark_in_grafana(made: Mapping[str, Any]) -> None:
    """Mark the run in Grafana, if there is one."""
    try:
        from lab.grafana.annotate import mark
    except ImportError:  # the host of a page has no client for Grafana (lab/stack/bundle.py)
        return
    begun = datetime.fromisoformat(made["started"]).timestamp()
    models = made["model"] if isinstance(made["model"], list) else [made["model"]]
    requests, failed = (sum(each[name] for each in made["repeats"]) for name in ("requests", "failures"))
    text = f"load on {' and '.join(models)}: {requests:,} requests, {failed:,} failed\n{made['command']}"
    mark(text, ["load", *models, made["id"]], begun, time.time())


def one(load: Load, run: str, number: int, variant: str | None) -> Turn:
    """Run one Locust to its end. Raises LoadError when it left no result."""
    (model,) = load.models
    with tempfile.TemporaryDirectory(prefix="lab-load-") as temporary, Watch(model) as watch:
        result_file = Path(temporary) / "result.json"
        with load_address(run) as address:
            command = locust_command(
                model, load.users, load.rate, load.seconds, load.kind, list(load.extra), result_file, file=load.file
            )
            if address:
                command[command.index("--result-file") : command.index("--result-file")] = [
                    "--metrics-host", address[0], "--metrics-port", str(address[1]), "--run", run, "--watched",
                ]  # fmt: skip
            others = Others(os.sched_getaffinity(0))
            code = _followed(command, load.file)
            taken = others.share()
        if not result_file.exists():
            raise LoadError(f"Locust did not run to its end (exit code {code}); its words are above")
        result = json.loads(result_file.read_text(encoding="utf-8"))
    server = watch.document(result["began"], result["began"] + result["seconds"])
    return Turn(number, model, variant, result, code, server, _taken_by_others(taken, result, server, model))


def _taken_by_others(taken: float, result: dict[str, Any], server: dict[str, Any], model: str) -> float:
    """Return the share of this machine's processors that neither Locust nor the server had, if that is here."""
    seconds = result["seconds"] * len(os.sched_getaffinity(0))
    used = server.get("cpu_seconds", 0.0) if settings.host_of(model) == settings.HOST else 0.0
    return max(0.0, taken - used / seconds) if seconds else taken


def _followed(command: Sequence[str], file: Path | None) -> int:
    """Run Locust; a signal that ends `lab` ends it early, and what was measured is kept."""
    parent = os.getpid()
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, cwd=settings.CHECKOUT, start_new_session=True,
        env={**os.environ, **({USER_FILE: str(file.resolve())} if file else {})},
        preexec_fn=lambda: die_with(parent, signal.SIGTERM),
    )  # fmt: skip
    handlers = {}
    with contextlib.suppress(ValueError):  # not the main thread: nobody sends us signals there
        for name in (signal.SIGTERM, signal.SIGINT):
            handlers[name] = signal.signal(name, lambda *_: process.terminate())
    try:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # not reaped yet: its group is still its own
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # workers that it left would take part in the next load
        return process.wait()
    finally:
        for name, handler in handlers.items():
            signal.signal(name, handler)


def busiest(result: dict[str, Any]) -> float:
    """The share of a core that the busiest generator process used."""
    return max(result["cpu"].values(), default=0.0)


def _check(load: Load) -> None:
    for model in load.models:
        refusal = _refusal(model, load.kind, load.extra)
        if refusal:
            raise LoadError(refusal)
    if load.file and not load.file.is_file():
        raise LoadError(f"there is no file {load.file}: give a Python file with classes of Locust's users")
    if not 1 <= load.repeat <= MOST_REPEATS:
        raise LoadError(f"--repeat {load.repeat}: give 1 to {MOST_REPEATS}")


def _refusal(model: str, kind: str, extra: Sequence[str]) -> str:
    """Return why no load can be made, and what to do about it; empty when it can."""
    if model not in settings.SERVICE_PORTS:
        return f"no model is called {model!r}; there are {', '.join(settings.SERVICE_PORTS)}"
    if kind not in KINDS:
        return f"unknown user kind {kind!r}; there are {', '.join(KINDS)}"
    port = settings.SERVICE_PORTS[model]
    if not _aimed_elsewhere(extra) and not accepts(port.number, settings.host_of(model)):
        return (
            f"nothing listens at {port.url}, where {model} should be: start the stack with `make lab-up`, "
            f"or set {port.variable} to its port"
        )
    return ""


def _aimed_elsewhere(extra: Sequence[str]) -> bool:
    """Return whether Locust's own options say what to load."""
    return any(word in {"-H", "--host"} or word.startswith("--host=") for word in extra)


def _belongs_into_the_network(model: str, extra: Sequence[str]) -> bool:
    """Return whether the model runs in a container of this machine, and we do not know the way to it."""
    told = model not in settings.SERVICE_PORTS or settings.host_of(model) != settings.HOST
    return not told and not _aimed_elsewhere(extra) and status.place() == containers.PLACE


FILE_INSIDE = Path("/locustfiles")


def _make_in_the_network(load: Load, *, as_json: bool) -> int:
    """Make the same load from a container beside the model's.

    At its published port it would be Docker's proxy that accepts, and the model's queues would never fill.
    """
    inside = FILE_INSIDE / load.file.name if load.file else None
    mounts = {str(load.file.resolve()): str(inside)} if load.file else {}
    words = load.words(inside)
    return beside.run(*([words[0], "--json", *words[1:]] if as_json else words), mounts=mounts)


def locust_command(
    model: str, users: int, rate: float, seconds: float, kind: str, extra: list[str], result_file: Path,
    file: Path | None = None,
) -> list[str]:  # fmt: skip
    """Return Locust's command without its page, which leaves its figures in `result_file`; `extra` goes to it as it is.

    With a file of one's own all its user classes run, unless `extra` names some.
    """
    locust = [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--headless", "--only-summary"]
    load = ["--model", model, "-u", str(users), "-r", str(rate), "-t", f"{max(1, round(seconds))}s"]
    classes = () if file else KINDS[kind][1]
    load += ["--loglevel", "WARNING", "--result-file", str(result_file)]
    # Asked for its own JSON as well, Locust leaves out its tables, which ours replace.
    quiet = ["--json-file", str(result_file.with_name("locust.json"))]
    return [*locust, *load, *quiet, *extra, *_meeting_place(extra), *classes]


def _meeting_place(extra: Sequence[str]) -> list[str]:
    """Return where Locust's own workers meet: a port of this load's, or those of two loads at once would mix."""
    if not any(word.startswith("--processes") for word in extra):
        return []
    port = free_port()
    return [f"--master-bind-port={port}", f"--master-port={port}"]


# The result.


def failures(result: dict[str, Any]) -> int:
    """Return how many requests and connects failed, those without a response included."""
    failed = sum(int(count) for *_, count in result["failures"] + result["connect_failures"])
    return failed + no_response(result)


def no_response(result: dict[str, Any]) -> int:
    """Return how many requests had no response at the end."""
    return sum(int(count) for _, count in result.get("no_response", ()))


def exit_code(turns: Sequence[Turn]) -> int:
    """Return the exit code of all turns together."""
    if any(turn.code or failures(turn.result) for turn in turns):
        return FAILURES
    return SATURATED_EXIT if any(busiest(turn.result) > SATURATED for turn in turns) else GOOD


def describe(load: Load, name: str, begun: datetime, seconds: float, turns: Sequence[Turn]) -> dict[str, Any]:
    """Return the document of a run, schema 2."""
    options = {key: value for key, value in asdict(load).items() if key in STORED_OPTIONS}
    return {
        "schema": results.SCHEMA,
        "kind": LOAD,
        "name": "load",
        "id": name,
        "model": load.models[0] if len(load.models) == 1 else list(load.models),
        "started": begun.astimezone(UTC).isoformat(),
        "seconds": round(seconds, 3),
        "options": {**options, "file": str(load.file) if load.file else None, "extra": list(load.extra)},
        "command": shlex.join(["lab", *load.words(load.file)]),
        "environment": environment.describe(),
        "pinned": False,
        "exit_code": exit_code(turns),
        "repeats": [_repeat(turn) for turn in turns],
    }


def _repeat(turn: Turn) -> dict[str, Any]:
    times, corrected = (_together(turn.result.get(kind, ())) for kind in ("responses", "intended"))
    return {
        "repeat": turn.repeat,
        "model": turn.model,
        "variant": turn.variant,
        "seconds": turn.result["seconds"],
        "requests": times.count,
        "failures": failures(turn.result),
        "no_response": no_response(turn.result),
        "errors": [[kind, error, count] for kind in ("failures", "connect_failures")
                   for _, error, count in turn.result[kind] if count],
        "generator_cpu_ratio": busiest(turn.result),
        "others_cpu_ratio": turn.others,
        "quantiles_seconds": {
            **{name: times.quantile(share) for name, share in SHARES.items()},
            "max": times.max_seconds if times.count else None,
        },
        "histogram": times.to_json(),
        "corrected_histogram": corrected.to_json() if corrected.count else None,
        "rows": document(turn.result)["rows"],
        "series": _series(turn.result),
        "server": turn.server,
    }  # fmt: skip


def _together(stored: Iterable[Sequence[Any]]) -> Histogram:
    """Return the histograms of all kinds of requests in one."""
    whole = Histogram()
    for *_, histogram in stored:
        whole.add(Histogram.from_json(histogram))
    return whole


def _series(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Return every second of the run, those in which nothing ended too."""
    found = {int(second): stored for second, stored in result["series"]}
    series, users = [], 0
    for second in range(max((*found, int(result["seconds"]) - 1), default=-1) + 1):
        failed, now, histogram = found.get(second, (0, users, Histogram().to_json()))
        users = now or users
        series.append({"second": second, "requests": histogram["count"], "failures": failed, "users": users,
                       "histogram": histogram})  # fmt: skip
    return series


def report(result: dict[str, Any], console: Console) -> None:
    """Print what Locust measured, connects apart from requests."""
    target = result["target"]
    title = f"Load on {target['model']} ({target['host']}:{target['port']}), {result['seconds']:.1f} s"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("ms", "number", "a second", "mean", *HEADINGS):
        table.add_column(heading, justify="left" if heading == "ms" else "right")
    for name, histogram in _histograms(result):
        _add_row(table, name, histogram, result["seconds"])
    console.print(table)
    if result.get("intended"):
        console.print(OMISSION, highlight=False)
    for what, rows in (("failed", result["failures"]), ("could not connect", result["connect_failures"])):
        for _, error, count in rows:
            if count:
                console.print(f"{count} {what}: {error}", style="red", highlight=False)
    if no_response(result):
        console.print(
            f"{no_response(result)} requests had no response at the end: the server is stuck, or slower than "
            "Locust's --stop-timeout",
            style="red", highlight=False,
        )  # fmt: skip
    console.print(f"generator: {busiest(result):.0%} of a core", highlight=False)
    if busiest(result) > SATURATED:
        console.print(
            "The generator was saturated: these figures say how fast Locust is, not the server. "
            "Use fewer users, --think, or --processes.",
            style="yellow",
        )


def _histograms(result: dict[str, Any]) -> Iterator[tuple[str, Histogram]]:
    """Yield what was measured, by the name of its row; connects only where there were any."""
    intended = {(method, name): stored for _, method, name, stored in result.get("intended", ())}
    for _, method, name, stored in result["responses"]:
        yield f"{method} {name}", Histogram.from_json(stored)
        if (method, name) in intended:
            yield f"{method} {name}{AS_DUE}", Histogram.from_json(intended[method, name])
    for _, stored in result["connects"]:
        if stored["count"]:
            yield "connect", Histogram.from_json(stored)


def document(result: dict[str, Any]) -> dict[str, Any]:
    """Return the table and what is printed beneath it as JSON: times in ms, histograms included."""
    seconds = result["seconds"]
    rows = [
        {
            "name": name,
            "count": histogram.count,
            "per_second": histogram.count / seconds if seconds > 0 else None,
            "mean_ms": None if histogram.mean_seconds is None else 1000 * histogram.mean_seconds,
            "quantiles_ms": quantiles_ms(histogram),
            "histogram": histogram.to_json(),
        }
        for name, histogram in _histograms(result)
    ]
    named = {"failures": result["failures"], "connect_failures": result["connect_failures"]}
    failed = {what: {error: count for _, error, count in found if count} for what, found in named.items()}
    return {
        "target": result["target"],
        "seconds": seconds,
        "rows": rows,
        **failed,
        "no_response": no_response(result),
        "generator_cpu": busiest(result),
    }


def _add_row(table: Table, name: str, histogram: Histogram, seconds: float) -> None:
    a_second = f"{histogram.count / seconds:,.0f}" if seconds > 0 else "-"
    table.add_row(name, f"{histogram.count:,}", a_second, *row_ms(histogram))
