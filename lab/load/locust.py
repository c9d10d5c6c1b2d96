"""Real load on one model of the running stack: Locust without its page, and what it measured as a table."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from lab import settings
from lab.measure.histogram import Histogram
from lab.peers.process import accepts
from lab.stack import beside, containers, status
from loadtests.kinds import KINDS

LOCUSTFILE = settings.CHECKOUT / "loadtests" / "locustfile.py"
SATURATED = 0.9
"""Share of a core above which the generator rather than the server decides the figures."""
GOOD, FAILURES, BAD_USAGE, SATURATED_EXIT = 0, 1, 2, 3
LOCUST_FAILURES = 1
"""Locust's exit code after a run with failures; any other than 0 and this means that it did not run."""


def run(model: str, users: int, rate: float, seconds: float, kind: str, extra: list[str]) -> int:
    """Load `model` with `users` of `kind`, `rate` of them started a second, for `seconds`.

    `extra` goes to Locust as it is. Returns 0 when nothing failed, 1 when something did, 2 when there
    is nothing to load or no such kind, 3 when the generator was saturated, so that the figures are its own.
    """
    if _belongs_into_the_network(model, extra):
        return _run_in_the_network(model, users, rate, seconds, kind, extra)
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


def _run_in_the_network(model: str, users: int, rate: float, seconds: float, kind: str, extra: list[str]) -> int:
    """The same from a container beside the model's.

    At its published port it would be Docker's proxy that accepts, and the model's queues would never fill.
    """
    load = ["load", model, "--users", str(users), "--rate", str(rate), "--seconds", str(seconds), "--kind", kind]
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
    table = Table(title=title, title_justify="left")
    for heading in ("", "number", "a second", "mean ms", "p50 ms", "p99 ms"):
        table.add_column(heading, justify="right" if heading else "left")
    for _, method, name, counts, total in result["responses"]:
        _add_row(table, f"{method} {name}", Histogram(counts, total), result["seconds"])
    for _, counts, total in result["connects"]:
        if any(counts):
            _add_row(table, "connect", Histogram(counts, total), result["seconds"])
    console.print(table)
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


def _add_row(table: Table, name: str, histogram: Histogram, seconds: float) -> None:
    count = histogram.count
    table.add_row(
        name,
        f"{count:,}",
        f"{count / seconds:,.0f}" if seconds > 0 else "-",
        f"{histogram.sum_seconds / count * 1000:.2f}" if count else "-",
        *(_milliseconds(histogram.quantile(share)) for share in (0.5, 0.99)),
    )


def _milliseconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1000:.2f}"
