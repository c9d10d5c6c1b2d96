"""Clients that repeat what was not answered: which strategy makes at-least-once delivery an exactly-once effect?"""

from __future__ import annotations

import contextlib
import http.client
import json
import subprocess
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from lab.measure.checks import always, between, shown
from lab.measure.experiment import Arm, Check, Control, Experiment, Finding, Observation, Quantity
from lab.measure.injector import CUT, REPEAT, Plan
from lab.measure.load import busiest, locust_command
from lab.measure.processes import cpu_seconds, tree
from lab.measure.trial import TrialError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lab.measure.checks import Judge
    from lab.measure.experiment import Results
    from lab.measure.trial import Server, Trial

WORKERS = 2
USERS = 16
FAULTS = 0.2
"""Share of the requests whose answer is lost, or which are sent twice."""
EFFECT = "2ms"
"""How long an effect takes: what `request-id` leaves open between looking up and remembering."""
ASKS = 200
"""Connections after which every worker should have been met."""
CROWD = 100
"""Connections that all send the same request, with the same key, at the same moment."""
CROWDED = "/counters/crowd"
READ_BYTES = 4096
LOCUST_SECONDS = 60.0
LEAST_OPERATIONS = 1000
OPERATIONS = "operations"
EFFECTS = f"effects of {CROWD} duplicates at once"
REFUSED, ANSWERS = "refused of these", "different answers to these"

DRAFT = "draft-ietf-httpapi-idempotency-key-header-07"
EXACTLY_ONCE = "at-least-once delivery + deduplication = exactly-once effect"


def trial(trial: Trial) -> Observation:
    """Locust's RetryingUser through the injector; then compare each operation's counter with what was applied."""
    with trial.serving() as server:
        cpu_before = cpu_seconds(tree(server.peer.pid))
        with injecting(trial, server) as (port, finish):
            locust_cpu = make_load(trial, f"http://{trial.client.address}:{port}")
            seen = finish()
        cpu = cpu_seconds(tree(server.peer.pid)) - cpu_before
        answers = crowd(trial, server)
        counters = read_counters(trial, server, [*seen["paths"], CROWDED])
    observation = Observation(shares={"operations": {}})
    requests = sum(path["requests"] for path in seen["paths"].values())
    for fault, word in ((CUT, "later"), (REPEAT, "meanwhile")):
        paths = {name: path for name, path in seen["paths"].items() if path["fault"] == fault}
        excess = [counters[name] - len(path["applied"]) for name, path in paths.items()]
        duplicated, lost = sum(max(0, n) for n in excess), sum(max(0, -n) for n in excess)
        observation.metrics |= {
            f"duplicated, retries {word}": Quantity(duplicated),
            f"lost, retries {word}": Quantity(lost),
            f"faults, retries {word}": Quantity(sum(path["faults"] for path in paths.values())),
        }
        observation.shares["operations"] |= {f"duplicated, {word}": duplicated, f"lost, {word}": lost}
    good = {answer for answer in answers if answer.startswith(b"HTTP/1.1 2")}
    observation.metrics |= {
        OPERATIONS: Quantity(sum(len(path["applied"]) for path in seen["paths"].values())),
        EFFECTS: Quantity(counters[CROWDED]),
        REFUSED: Quantity(sum(not answer.startswith((b"HTTP/1.1 2", b"HTTP/1.1 409 ")) for answer in answers)),
        ANSWERS: Quantity(len(good)),
        "server cpu a request": Quantity(cpu / requests * 1e6, "µs"),
        "time a request": Quantity(seen["seconds"] / requests * 1000, "ms"),
        # Counts do not depend on how fast they were asked for, so this spoils nothing.
        "locust cpu": Quantity(locust_cpu),
    }
    return observation


@contextlib.contextmanager
def injecting(trial: Trial, server: Server) -> Iterator[tuple[int, Any]]:
    """The injector in front of the server: its port, and a function that ends it and returns what it has seen."""
    share = trial.parameter("faults")
    plan = Plan(*server.address, trial.client.address, share, share, seed=trial.repetition)
    command = [sys.executable, "-m", "lab.measure.injector", json.dumps(asdict(plan))]
    with trial.started(*command, stdin=subprocess.PIPE) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        yield port, lambda: json.loads(process.communicate()[0])


def make_load(trial: Trial, url: str) -> float:
    """Users that repeat a POST until it is answered; Locust's share of its core. What was wrong, we count ourselves."""
    result = trial.folder / "locust.json"
    extra = ["--host", url, "--think", "0", "--effect", EFFECT, "--fresh-counters"]
    command = locust_command("nginx", USERS, USERS, 1 if trial.quick else 6, "counters", extra, result)
    with trial.started(*command) as process:
        try:
            process.communicate(timeout=LOCUST_SECONDS)
        except subprocess.TimeoutExpired:
            raise TrialError("Locust did not come to its end") from None
    if not result.exists():
        raise TrialError(f"Locust ended with {process.returncode} and no result; its words are in the log")
    return busiest(json.loads(result.read_text(encoding="utf-8")))


def crowd(trial: Trial, server: Server) -> list[bytes]:
    """The answers to one request from many connections, all of which have sent it before the first reads its own; and
    last, to one more that comes when all have been answered. Without the heads' other lines, which may differ.
    """
    request = (
        f"POST {CROWDED}?block={EFFECT} HTTP/1.1\r\nHost: lab\r\nContent-Length: 0\r\n"
        'Idempotency-Key: "crowd"\r\nX-Request-Id: crowd\r\n\r\n'
    ).encode("ascii")
    with contextlib.ExitStack() as stack:
        *together, last = [stack.enter_context(trial.connect(server.address)) for _ in range(CROWD + 1)]
        for connection in together:
            connection.sendall(request)
        answers = [connection.recv(READ_BYTES) for connection in together]
        last.sendall(request)
        answers.append(last.recv(READ_BYTES))
    return [answer.partition(b"\r\n")[0] + answer.partition(b"\r\n\r\n")[2] for answer in answers]


def read_counters(trial: Trial, server: Server, paths: list[str]) -> dict[str, int]:
    """The effects that are there. Counters of workers that have a store of their own are added up; those of a shared
    store are all the same, and where they are not, whoever knows least is believed.
    """
    found: dict[str, dict[str, int]] = {}
    for _ in range(ASKS):
        with trial.client.entered():
            connection = http.client.HTTPConnection(*server.address, timeout=10)
            _, worker = ask(connection, paths[0])
        if worker not in found:
            found[worker] = {path: ask(connection, path)[0] for path in paths}
        connection.close()
        if len(found) == WORKERS:
            break
    else:
        raise TrialError(f"only worker {', '.join(found)} of {WORKERS} answered {ASKS} connections")
    together = sum if trial.parameter("add up") else min
    return {path: together(values[path] for values in found.values()) for path in paths}


def ask(connection: http.client.HTTPConnection, path: str) -> tuple[int, str]:
    """A counter's value and the worker that said it."""
    connection.request("GET", path)
    response = connection.getresponse()
    return int(response.read()), response.headers["X-Worker"]


def arm(name: str, strategy: str = "", *, store: str = "sqlite", faults: float = FAULTS) -> Arm:
    """NGINX's model, so workers are processes."""
    options = {"workers": WORKERS, "worker_kind": "process", "idempotency": strategy or name, "store": store}
    return Arm(name, "nginx", options, parameters={"faults": faults, "add up": store == "memory"})


def none_of(arm: str, what: str, retries: str) -> Judge:
    """No operation was lost, or duplicated, in any trial; and there were faults, and operations, enough to tell."""

    def judge(results: Results) -> Finding:
        found, faults, operations = (
            results[arm].summary(name)
            for name in (f"{what}, retries {retries}", f"faults, retries {retries}", OPERATIONS)
        )
        made = sum(results[arm].values(OPERATIONS))
        text = f"{what} {shown(found)} of {made:,.0f} operations, faults {shown(faults)}"
        if found["max"] > 0:
            return Finding(text, False)
        enough = faults["min"] > 0 and (operations["n"] == 1 or made >= LEAST_OPERATIONS)
        return Finding(text if enough else f"{text}: too few to tell", True if enough else None)

    return judge


def one_effect(arm: str) -> Judge:
    """Of the crowd's requests one had an effect, and none was refused."""

    def judge(results: Results) -> Finding:
        effects, refused = results[arm].summary(EFFECTS), results[arm].summary(REFUSED)
        holds = effects["min"] == effects["max"] == 1 and refused["max"] == 0
        return Finding(f"effects {shown(effects)}, refused {shown(refused)}", holds)

    return judge


PRIVATE = "idempotency-key, own memory"
CHECKS = (
    Check(
        "none-duplicates",
        "without a strategy, a retry after a lost answer is a second effect",
        EXACTLY_ONCE,
        "duplicated at least 1",
        between("none", "duplicated, retries later", least=1),
    ),
    Check(
        "request-id-catches-later",
        "looking up and then remembering catches retries that come later",
        "services/apps/idempotency.py, RequestId",
        f"duplicated 0, of at least {LEAST_OPERATIONS:,} operations in full form, with faults in every trial",
        none_of("request-id", "duplicated", "later"),
    ),
    Check(
        "request-id-misses-meanwhile",
        "but not a duplicate that comes before it has remembered",
        "services/apps/idempotency.py, RequestId",
        "duplicated at least 1",
        between("request-id", "duplicated, retries meanwhile", least=1),
    ),
    *(
        Check(
            f"{strategy}-{what}-{retries}",
            f"{strategy} with a shared store: nothing is {what} by retries that come {retries}",
            source,
            f"{what} 0, of at least {LEAST_OPERATIONS:,} operations in full form, with faults in every trial",
            none_of(strategy, what, retries),
        )
        for strategy, source in (("upsert", "UNIQUE constraint"), ("idempotency-key", DRAFT))
        for what in ("duplicated", "lost")
        for retries in ("later", "meanwhile")
    ),
    *(
        Check(
            f"{strategy}-crowd",
            f"{strategy}: of {CROWD} duplicates that come at once, one has an effect",
            source,
            f"effects 1; all {CROWD} answered, the others with success or 409 (still at work)",
            one_effect(strategy),
        )
        for strategy, source in (("upsert", "UNIQUE constraint"), ("idempotency-key", DRAFT))
    ),
    Check(
        "idempotency-key-replays",
        "idempotency-key: whoever is told of a success, then or later, gets the same status and body",
        DRAFT,
        "different answers 1",
        always("idempotency-key", ANSWERS, 1, 1),
    ),
    Check(
        "own-memory-duplicates",
        "a store in the memory of each process does not know what another has applied",
        "DESIGN.md, section 2",
        "duplicated at least 1",
        between(PRIVATE, "duplicated, retries later", least=1),
    ),
)

EXPERIMENT = Experiment(
    name="idempotent-retries",
    chapter="idempotency",
    question="Answers get lost and clients repeat their POST. How often is a counter raised that was asked once?",
    predict=f"{FAULTS:.0%} of the answers are lost: how many operations are duplicated under each strategy?",
    arms=(
        arm("none"),
        arm("request-id"),
        arm("upsert"),
        arm("idempotency-key"),
        arm(PRIVATE, "idempotency-key", store="memory"),
    ),
    trial=trial,
    checks=CHECKS,
    controls=(
        Control(
            "no-faults",
            "no answer is lost and nothing is sent twice",
            (
                arm("none", faults=0),
                arm("request-id", faults=0),
                arm(PRIVATE, "idempotency-key", store="memory", faults=0),
            ),
            ("none-duplicates", "request-id-misses-meanwhile", "own-memory-duplicates"),
        ),
        Control(
            "no-strategy",
            "every POST is applied",
            (arm("request-id", "none"), arm("upsert", "none"), arm("idempotency-key", "none")),
            (
                "request-id-catches-later",
                *(f"{s}-duplicated-{r}" for s in ("upsert", "idempotency-key") for r in ("later", "meanwhile")),
                *(f"{strategy}-crowd" for strategy in ("upsert", "idempotency-key")),
                "idempotency-key-replays",
            ),
        ),
        Control(
            "store-forgets",
            "each process has a store of its own, and whoever knows least is believed in the end",
            tuple(
                Arm(
                    name,
                    "nginx",
                    {"workers": WORKERS, "worker_kind": "process", "idempotency": name, "store": "memory"},
                    parameters={"faults": FAULTS, "add up": False},
                )
                for name in ("upsert", "idempotency-key")
            ),
            tuple(f"{s}-lost-{r}" for s in ("upsert", "idempotency-key") for r in ("later", "meanwhile")),
        ),
    ),
    repetitions=3,
    explanation="""\
A client that gets no answer cannot know whether its request was lost or only the answer. If it gives up, an effect may
be missing; if it repeats, it may happen twice. So it has to repeat, *and* the server has to recognise the repetition.

Recognising is itself a read and a write, and has to be one step with the effect. `request-id` looks up, applies and
then remembers: a retry after a second is caught, but a duplicate that arrives meanwhile (a proxy that asks twice, an
impatient client) finds nothing yet. `upsert` lets the database decide: under a UNIQUE constraint only one INSERT
succeeds. `idempotency-key` reserves the key before the effect, answers 409 while the first is still at work, and
stores status and body, so that a repetition gets the very same answer.

And all of this only where the repetition is *seen*: it arrives on a new connection, which another worker may accept.
Processes with a store in their own memory deduplicate each for itself, which is not deduplication.
""",
)
