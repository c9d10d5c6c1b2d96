"""Real load on models of the running stack: Locust without its page. Its figures are shown, and stored as a run.

A run has one repeat or several, on one model or on two by turns; each repeat is a Locust of its own. While the stack's
Prometheus runs, it finds each by a file of targets (`lab.load.seen`), under the label `run`.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from lab import machines, results, settings
from lab.load.result import Repeat, described, exit_code, report
from lab.load.seen import load_address, unseen
from lab.load.served import Watch
from lab.measure import environment
from lab.measure.foreign_cpu import ForeignCpu
from lab.peers.process import accepts, die_with, free_port
from lab.records import LOAD
from lab.stack import containers, lab_container, status
from loadtests.kinds import KINDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    Pages = Callable[[Path], object]

LOCUSTFILE = settings.CHECKOUT / "loadtests" / "locustfile.py"
USER_FILE = "LAB_USER_FILE"
"""Names the file whose user classes take the place of the lab's."""
BAD_USAGE = 2
MOST_REPEATS = 100
SPARE_DESCRIPTORS = 64
"""Of Locust itself, beside its users' connections."""
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

    def repeats(self) -> Iterator[tuple[int, str, str | None]]:
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


class LoadError(Exception):
    """No load can be made; the text says why and what to do."""


class LastingConsole(Console):
    """A console whose reader may leave early, as `| head` does: nothing more is shown, and the run goes on."""

    def on_broken_pipe(self) -> None:
        """Discard the rest, where rich would end the process."""
        self.quiet = True
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, self.file.fileno())  # or the interpreter would try again at its end, and complain
        os.close(null)


def make(load: Load, *, as_json: bool = False, pages: Pages = lambda _: None) -> int:
    """Make a load, show it, and store it; `pages` is given its folder, to write its page and the index.

    Returns 0 when nothing failed, 1 when something did, 2 when there is nothing to load or no such kind, 3 when the
    generator was saturated, so that the figures are its own.
    """
    if all(_belongs_into_the_network(model, load.extra) for model in load.models):
        return _make_in_the_network(load, as_json=as_json)
    errors = LastingConsole(stderr=True)
    try:
        _check(load)
        for warning in filter(None, (too_few_descriptors(load.users), *map(unseen, load.models[:1]))):
            errors.print(warning, style="yellow", highlight=False, soft_wrap=True)
        made = _made(load, errors, errors if as_json else LastingConsole(), pages)
    except (LoadError, results.ResultsError) as error:
        errors.print(str(error), style="red", highlight=False, soft_wrap=True)
        return BAD_USAGE
    if as_json:
        print(json.dumps(made, ensure_ascii=False))
    return int(made["exit_code"])


def _made(load: Load, errors: Console, console: Console, pages: Pages) -> dict[str, Any]:
    begun = datetime.now(UTC)
    folder = results.new_folder(f"load-{'-'.join(load.models)}", begun)
    repeats: list[Repeat] = []
    started = time.monotonic()
    try:
        # Before Locust runs, and between two of them, SIGTERM ends us as Ctrl-C does: no empty folder stays.
        with _on((signal.SIGTERM,), lambda *_: sys.exit(128 + signal.SIGTERM)):
            for number, model, variant in load.repeats():
                repeat = one(replace(load, models=(model,)), folder, f"{folder.name}-{len(repeats)}", number, variant)
                repeats.append(repeat)
                report(repeat.result, console)
                if repeat.code not in (0, 1):
                    break
    finally:
        if not repeats:
            folder.rmdir()
    made = describe(load, folder.name, begun, time.monotonic() - started, repeats)
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


def one(load: Load, folder: Path, run: str, number: int, variant: str | None) -> Repeat:
    """Run one Locust to its end. Raises LoadError when it left no result."""
    (model,) = load.models
    # In the run's own folder: a `lab` that is killed leaves it behind, and there it goes with the run.
    with tempfile.TemporaryDirectory(prefix="locust-", dir=folder) as temporary, Watch(model) as watch:
        result_file = Path(temporary) / "result.json"
        with load_address(run) as address:
            command = locust_command(
                model, load.users, load.rate, load.seconds, load.kind, list(load.extra), result_file, file=load.file
            )
            if address:
                command[command.index("--result-file") : command.index("--result-file")] = [
                    "--metrics-host", address[0], "--metrics-port", str(address[1]), "--run", run, "--watched",
                ]  # fmt: skip
            others = ForeignCpu(machines.cpus())
            code = _followed(command, load.file, load.users)
            taken = others.share()
        if not result_file.exists():
            raise LoadError(f"Locust did not run to its end (exit code {code}); its words are above")
        result = json.loads(result_file.read_text(encoding="utf-8"))
    server = watch.document(result["began"], result["began"] + result["seconds"])
    return Repeat(number, model, variant, result, code, server, _taken_by_others(taken, result, server, model))


def _taken_by_others(taken: float, result: dict[str, Any], server: dict[str, Any], model: str) -> float:
    """Return the share of this machine's processors that neither Locust nor the server had, if that is here."""
    seconds = result["seconds"] * len(machines.cpus())
    used = server.get("cpu_seconds", 0.0) if settings.host_of(model) == settings.HOST else 0.0
    return max(0.0, taken - used / seconds) if seconds else taken


def _followed(command: Sequence[str], file: Path | None, users: int) -> int:
    """Run Locust; a signal that ends `lab` ends it early, and what was measured is kept."""
    parent = os.getpid()
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, cwd=settings.CHECKOUT, start_new_session=True,
        env={**os.environ, **({USER_FILE: str(file.resolve())} if file else {})},
        preexec_fn=lambda: _before_exec(parent, users),
    )  # fmt: skip
    with _on((signal.SIGTERM, signal.SIGINT), lambda *_: process.terminate()):
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # not reaped yet: its group is still its own
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # workers that it left would take part in the next load
        return process.wait()


@contextlib.contextmanager
def _on(numbers: Sequence[signal.Signals], handler: Callable[..., object]) -> Iterator[None]:
    """Call `handler` for these signals until the block ends."""
    before = {}
    with contextlib.suppress(ValueError):  # not the main thread: nobody sends us signals there
        before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def _before_exec(parent: int, users: int) -> None:
    die_with(parent, signal.SIGTERM)
    allow_descriptors(users)


def _check(load: Load) -> None:
    for model in load.models:
        refusal = _refusal(model, load.kind, load.extra)
        if refusal:
            raise LoadError(refusal)
    if load.file and not load.file.is_file():
        raise LoadError(f"there is no file {load.file}: give a Python file with classes of Locust's users")
    if not 1 <= load.repeat <= MOST_REPEATS:
        raise LoadError(f"--repeat {load.repeat}: give 1 to {MOST_REPEATS}")


def too_few_descriptors(users: int) -> str:
    """Return a warning where Locust cannot have a connection for each user; empty where it can."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY or users + SPARE_DESCRIPTORS <= hard:
        return ""
    return (
        f"{users} users need {users + SPARE_DESCRIPTORS} file descriptors, and the limit is {hard}: connections beyond "
        f"it will fail. Take fewer users, or raise it: ulimit -Hn {users + SPARE_DESCRIPTORS} (as root)"
    )


def allow_descriptors(users: int) -> None:
    """Raise the soft limit on descriptors to what the users need, as far as the hard one allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = users + SPARE_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(users + SPARE_DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _refusal(model: str, kind: str, extra: Sequence[str]) -> str:
    """Return why no load can be made, and what to do about it; empty when it can."""
    if model not in settings.SERVICE_PORTS:
        return f"no model is called {model!r}; there are {', '.join(settings.SERVICE_PORTS)}"
    if kind not in KINDS:
        return f"unknown user kind {kind!r}; there are {', '.join(KINDS)}"
    if not machines.LINUX:
        return f"load is made on Linux: start the containers with `{settings.UP}`, and `lab load` makes it beside them"
    port = settings.SERVICE_PORTS[model]
    if not _aimed_elsewhere(extra) and not accepts(port.number, settings.host_of(model)):
        return (
            f"nothing listens at {port.url}, where {model} should be: start the stack with `{settings.UP}`, "
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
    return lab_container.run(*([words[0], "--json", *words[1:]] if as_json else words), mounts=mounts)


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


def describe(load: Load, name: str, begun: datetime, seconds: float, repeats: Sequence[Repeat]) -> dict[str, Any]:
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
        "exit_code": exit_code(repeats),
        "repeats": [described(repeat) for repeat in repeats],
    }
