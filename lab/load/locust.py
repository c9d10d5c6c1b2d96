"""Real load on one model of the running stack: Locust without its page, and what it measured as a table."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table

from lab import settings
from lab.measure.latencies import HEADINGS, quantiles_ms, row_ms
from lab.peers.process import accepts
from lab.stack import beside, containers, status
from loadtests.histogram import Histogram
from loadtests.kinds import KINDS

if TYPE_CHECKING:
    from collections.abc import Iterator

LOCUSTFILE = settings.CHECKOUT / "loadtests" / "locustfile.py"
SATURATED = 0.9
"""Share of a core above which the generator rather than the server decides the figures."""
GOOD, FAILURES, BAD_USAGE, SATURATED_EXIT = 0, 1, 2, 3
LOCUST_FAILURES = 1
"""Locust's exit code after a run with failures; any other than 0 and this means that it did not run."""
AS_DUE = ", as due"
OMISSION = (
    "“as due” counts from when a request was due at its pace, and those that were never sent because an earlier one "
    "took so long: the other row hides them (coordinated omission)."
)


def run(
    model: str, users: int, rate: float, seconds: float, kind: str, extra: list[str], *, as_json: bool = False
) -> int:
    """Load `model` with `users` of `kind`, `rate` of them started a second, for `seconds`.

    `extra` goes to Locust as it is. Returns 0 when nothing failed, 1 when something did, 2 when there
    is nothing to load or no such kind, 3 when the generator was saturated, so that the figures are its own.
    """
    if _belongs_into_the_network(model, extra):
        return _run_in_the_network(model, users, rate, seconds, kind, extra, as_json=as_json)
    errors = Console(stderr=True)
    refusal = _refusal(model, kind, extra)
    if refusal:
        errors.print(refusal, style="red", highlight=False, soft_wrap=True)
        return BAD_USAGE
    with tempfile.TemporaryDirectory(prefix="lab-load-") as folder:
        result_file = Path(folder) / "result.json"
        command = locust_command(model, users, rate, seconds, kind, extra, result_file)
        done = subprocess.run(command, check=False, stdout=subprocess.DEVNULL, cwd=settings.CHECKOUT)
        if not result_file.exists():
            errors.print(
                f"Locust did not run to its end (exit code {done.returncode}); its words are above", style="red"
            )
            return BAD_USAGE
        result = json.loads(result_file.read_text(encoding="utf-8"))
    if as_json:
        print(json.dumps(document(result), indent=2))
    else:
        report(result, Console())
    if done.returncode or failures(result):
        return FAILURES
    return SATURATED_EXIT if busiest(result) > SATURATED else GOOD


def busiest(result: dict[str, Any]) -> float:
    """The share of a core that the busiest generator process used."""
    return max(result["cpu"].values(), default=0.0)


def _refusal(model: str, kind: str, extra: list[str]) -> str:
    """Why no load can be made, and what to do about it; empty when it can."""
    if model not in settings.SERVICE_PORTS:
        return f"no model is called {model!r}; there are {', '.join(settings.SERVICE_PORTS)}"
    if kind not in KINDS:
        return f"no kind of user is called {kind!r}; there are {', '.join(KINDS)}"
    port = settings.SERVICE_PORTS[model]
    if not _aimed_elsewhere(extra) and not accepts(port.number, settings.host_of(model)):
        return (
            f"nothing answers at {port.url}, where {model} should be: start the stack with `make lab-up`, "
            f"or set {port.variable} to its port"
        )
    return ""


def _aimed_elsewhere(extra: list[str]) -> bool:
    """Whether Locust's own options say what to load."""
    return any(word in {"-H", "--host"} or word.startswith("--host=") for word in extra)


def _belongs_into_the_network(model: str, extra: list[str]) -> bool:
    """Whether the model runs in a container of this machine, and we do not know the way to it."""
    told = model not in settings.SERVICE_PORTS or settings.host_of(model) != settings.HOST
    return not told and not _aimed_elsewhere(extra) and status.place() == containers.PLACE


def _run_in_the_network(
    model: str, users: int, rate: float, seconds: float, kind: str, extra: list[str], *, as_json: bool
) -> int:
    """The same from a container beside the model's.

    At its published port it would be Docker's proxy that accepts, and the model's queues would never fill.
    """
    load = ["load", model, "--users", str(users), "--rate", str(rate), "--seconds", str(seconds), "--kind", kind]
    load += ["--json"] if as_json else []
    return beside.run(*load, "--", *extra)


def locust_command(
    model: str, users: int, rate: float, seconds: float, kind: str, extra: list[str], result_file: Path
) -> list[str]:
    """Locust without its page, which leaves what it measured in `result_file`. `extra` goes to it as it is."""
    locust = [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--headless", "--only-summary"]
    load = ["--model", model, "-u", str(users), "-r", str(rate), "-t", f"{max(1, round(seconds))}s"]
    _, classes = KINDS[kind]
    load += ["--loglevel", "WARNING", "--result-file", str(result_file)]
    # Asked for its own JSON as well, Locust leaves out its tables, which ours replace.
    quiet = ["--json-file", str(result_file.with_name("locust.json"))]
    return [*locust, *load, *quiet, *extra, *classes]


def failures(result: dict[str, Any]) -> int:
    """Requests and connects that failed."""
    return sum(count for *_, count in result["failures"] + result["connect_failures"])


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
    return {"target": result["target"], "seconds": seconds, "rows": rows, **failed, "generator_cpu": busiest(result)}


def _add_row(table: Table, name: str, histogram: Histogram, seconds: float) -> None:
    a_second = f"{histogram.count / seconds:,.0f}" if seconds > 0 else "-"
    table.add_row(name, f"{histogram.count:,}", a_second, *row_ms(histogram))
