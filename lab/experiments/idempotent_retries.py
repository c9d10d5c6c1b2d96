"""Clients that repeat what was not answered: which strategy makes at-least-once delivery an exactly-once effect?"""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from lab.experiments import faulty_load, theory
from lab.experiments.faulty_load import NEXT
from lab.harness.checks import always, between, number, shown
from lab.harness.experiment import Check, Control, Experiment, Finding
from lab.harness.observation import Arm, Observation, Quantity
from lab.harness.trial import TrialError
from lab.load.fault_proxy import CUT, REPEAT
from lab.measure.processes import cpu_seconds, tree

if TYPE_CHECKING:
    import socket

    from lab.harness.checks import Judge
    from lab.harness.experiment import Results
    from lab.harness.trial import Server, Trial

WORKERS = 8
USERS = 16
FAULTS = 0.2
"""Share of the requests whose answer is lost (on half of the counters), or which are sent twice (on the others)."""
EFFECT, LONG_EFFECT = "5ms", "30ms"
"""Time that an effect takes: what `request-id` leaves open between looking up and remembering. The crowd's takes longer
than all its requests are under way, so that every worker has begun with one before the first has come to its end.
"""
CROWD = 100
"""Connections that all send the same request, with the same key, at the same moment."""
CROWDED = "/counters/crowd"
READ_BYTES = 1 << 16
TOGETHER = 100
"""Counters asked for at once: their answers are some 20 kB, and so neither side has to wait for the other."""
VALUE = re.compile(rb"\r\n\r\n(\d+)\n")
WORKER = re.compile(rb"\r\nx-worker: *(\S+)", re.IGNORECASE)
LEAST_FAULTS_A_TRIAL = 10
LEAST_FAULTS = 500
"""In all trials of a full run: none in so many means fewer than 0.6 % of faults."""
OPERATIONS = "operations"
EFFECTS = f"effects of {CROWD} duplicates at once"
REFUSED, ANSWERS, TOLD_TO_WAIT = "refused of these", "different answers to these", "told to wait of these"

UNIQUE = "sqlite.org: lang_createtable, UNIQUE constraints; lang_upsert, ON CONFLICT DO NOTHING"
DRAFT = "draft-ietf-httpapi-idempotency-key-header-07"
EXACTLY_ONCE = "at-least-once delivery + deduplication = exactly-once effect"


def trial(trial: Trial) -> Observation:
    """Locust's RetryingUser through the injector; then compare each operation's counter with what was applied."""
    with trial.serving() as server:
        cpu_before = cpu_seconds(tree(server.peer.pid))
        seen, locust_cpu = faulty_load.make(trial, server, trial.parameter("faults"), USERS, EFFECT)
        cpu = cpu_seconds(tree(server.peer.pid)) - cpu_before
        answers = crowd(trial, server)
        counters = read_counters(trial, server, [*seen["paths"], CROWDED])
    requests = sum(path["requests"] for path in seen["paths"].values())
    observation = compared(seen["paths"], counters)
    observation.metrics |= crowd_metrics(answers) | {
        OPERATIONS: Quantity(sum(len(path["applied"]) for path in seen["paths"].values())),
        EFFECTS: Quantity(counters[CROWDED].made),
        "server cpu a request": Quantity(cpu / requests * 1e6, "µs"),
        "time a request": Quantity(seen["seconds"] / requests * 1000, "ms"),
        # Counts do not depend on how fast they were asked for, so this spoils nothing.
        "locust cpu": Quantity(locust_cpu),
    }
    return observation


class Effects(NamedTuple):
    """Of one counter."""

    made: int
    """By all workers together."""
    told: int
    """To whoever asks the worker that knows least."""


def compared(seen: dict[str, dict[str, Any]], counters: dict[str, Effects]) -> Observation:
    """End of each operation. Duplicated are effects beyond those that were answered with success once each;
    lost are those that a worker knows nothing of.
    """
    observation = Observation(shares={"operations": {}})
    for fault, word in ((CUT, "later"), (REPEAT, "meanwhile")):
        paths = {name: path for name, path in seen.items() if path["fault"] == fault}
        duplicated = sum(max(0, counters[name].made - len(path["applied"])) for name, path in paths.items())
        lost = sum(max(0, len(path["applied"]) - counters[name].told) for name, path in paths.items())
        observation.metrics |= {
            f"duplicated, retries {word}": Quantity(duplicated),
            f"lost, retries {word}": Quantity(lost),
            f"faults, retries {word}": Quantity(sum(path["faults"] for path in paths.values())),
        }
        observation.shares["operations"] |= {f"duplicated, {word}": duplicated, f"lost, {word}": lost}
    return observation


def crowd_metrics(answers: list[bytes]) -> dict[str, Quantity]:
    """Requests of the crowd that were refused or told to wait, and the responses that the others got."""
    good = {answer for answer in answers if answer.startswith(b"HTTP/1.1 2")}
    waiting = sum(answer.startswith(b"HTTP/1.1 409 ") for answer in answers)
    others = sum(not answer.startswith((b"HTTP/1.1 2", b"HTTP/1.1 409 ")) for answer in answers)
    return {REFUSED: Quantity(others), TOLD_TO_WAIT: Quantity(waiting), ANSWERS: Quantity(len(good))}


def crowd(trial: Trial, server: Server) -> list[bytes]:
    """The answers to one request from many connections, all of which have sent it before the first reads its own; and
    last, to one more that comes when all have been answered. Without the heads' other lines, which may differ.
    """
    request = (
        f"POST {CROWDED}?block={LONG_EFFECT} HTTP/1.1\r\nHost: lab\r\nContent-Length: 0\r\n"
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


def read_counters(trial: Trial, server: Server, paths: list[str]) -> dict[str, Effects]:
    """The effects that are there, by what every worker says. Workers that have a store of their own have made what
    they say; those of a shared store say all the same, and whoever does not has forgotten something.
    """
    found: dict[str, list[int]] = {}
    for _ in range(2 * WORKERS):  # each new connection is the next one's
        with trial.connect(server.address) as connection:
            worker, _ = ask(connection, paths[:1])
            if worker not in found:
                asked = [ask(connection, paths[at : at + TOGETHER])[1] for at in range(0, len(paths), TOGETHER)]
                found[worker] = [value for values in asked for value in values]
    if len(found) < WORKERS:
        raise TrialError(f"only worker {', '.join(found)} of {WORKERS} answered {2 * WORKERS} connections: {NEXT}")
    together = sum if trial.arm.options["store"] == "memory" else max
    return {path: Effects(together(values), min(values)) for path, *values in zip(paths, *found.values(), strict=True)}


def ask(connection: socket.socket, paths: list[str]) -> tuple[str, list[int]]:
    """The worker, and the values of these counters, in one go."""
    connection.sendall(b"".join(b"GET %b HTTP/1.1\r\nHost: lab\r\n\r\n" % path.encode() for path in paths))
    answers = b""
    while len(values := VALUE.findall(answers)) < len(paths):
        more = connection.recv(READ_BYTES)
        if not more:
            raise TrialError(f"{len(values)} of {len(paths)} counters were told, and then the connection ended: {NEXT}")
        answers += more
    worker = WORKER.search(answers)
    if not worker:
        raise TrialError(f"a counter without X-Worker: {answers[:READ_BYTES]!r}")
    return worker[1].decode(), [int(value) for value in values]


def arm(name: str, strategy: str = "", *, store: str = "sqlite", faults: float = FAULTS) -> Arm:
    """Processes, each of which is given the next connection: so duplicates that come at once meet different ones."""
    options = {"workers": WORKERS, "worker_kind": "process", "idempotency": strategy or name, "store": store}
    return Arm(name, "memcached", options, parameters={"faults": faults})


def none_of(arm: str, what: str, retries: str) -> Judge:
    """No fault has led to an operation that was lost, or duplicated, in any trial; and there were faults enough to
    tell. None in n faults is no proof of never: `rule_of_three` says what it proves.
    """

    def judge(results: Results) -> Finding:
        metric = f"faults, retries {retries}"
        found, faults = results[arm].summary(f"{what}, retries {retries}"), results[arm].summary(metric)
        n = sum(results[arm].values(metric))
        text = f"{what} {shown(found)} in {n:,.0f} faults"
        if found["max"] > 0:
            return Finding(text, False)
        if faults["min"] < LEAST_FAULTS_A_TRIAL or (faults["n"] > 1 and n < LEAST_FAULTS):
            return Finding(f"{text}: too few to tell", None)
        most = number(rule_of_three(n) * 100)
        return Finding(f"{text}, so by the rule of three in fewer than {most} % of them", True)

    return judge


def rule_of_three(n: float) -> float:
    """The share below which an event's frequency lies, at 95 %, when n chances have not brought it once."""
    return 3 / n


def one_effect(arm: str) -> Judge:
    """Of the crowd's requests one had an effect, and none was refused; and they were at work at the same time, else
    they prove nothing. `request-id` shows that by its effects, who is told to wait by being told.
    """

    def judge(results: Results) -> Finding:
        effects, refused, waiting = (results[arm].summary(name) for name in (EFFECTS, REFUSED, TOLD_TO_WAIT))
        unprotected = results["request-id"].summary(EFFECTS)
        text = f"effects {shown(effects)}, refused {shown(refused)}, told to wait {shown(waiting)}"
        text += f"; effects under request-id {shown(unprotected)}"
        if not (effects["min"] == effects["max"] == 1 and refused["max"] == 0):
            return Finding(text, False)
        met = unprotected["min"] > 1 and (arm != "idempotency-key" or waiting["min"] > 0)
        return Finding(text, True) if met else Finding(f"{text}: they did not meet", None)

    return judge


def slips_through(results: Results) -> Finding:
    """Duplicates that come while the first is at work, one beside it or a crowd of them, are applied as well."""
    duplicated, effects = (results["request-id"].summary(name) for name in ("duplicated, retries meanwhile", EFFECTS))
    text = f"duplicated, retries meanwhile {shown(duplicated)}; {EFFECTS} {shown(effects)}"
    return Finding(text, duplicated["median"] >= 1 and effects["median"] > 1)


def none(what: str) -> str:
    """Expectation where nothing is to happen."""
    return (
        f"{what} 0, with at least {LEAST_FAULTS_A_TRIAL} faults in every trial and {LEAST_FAULTS:,} in full form "
        f"(then fewer than {number(rule_of_three(LEAST_FAULTS) * 100)} % of faults at 95 %)"
    )


PRIVATE = "idempotency-key, own memory"
CHECKS = (
    Check(
        "none-duplicates",
        "without a strategy, a retry after a lost answer is a second effect",
        EXACTLY_ONCE,
        "duplicated at least 1",
        between("none", "duplicated, retries later", least=1),
        timed=False,
        shows=("I6",),
    ),
    Check(
        "request-id-catches-later",
        "looking up and then remembering catches retries that come later",
        "services/apps/idempotency.py, RequestId",
        none("duplicated"),
        none_of("request-id", "duplicated", "later"),
        timed=False,
        shows=("I2",),
    ),
    Check(
        "request-id-misses-meanwhile",
        "but not a duplicate that comes before it has remembered",
        "services/apps/idempotency.py, RequestId",
        "duplicated at least 1, and more than 1 effect of a crowd",
        slips_through,
        timed=False,
        corrects=theory.LOOKING_UP_SUFFICES,
    ),
    *(
        Check(
            f"{strategy}-{what}-{retries}",
            f"{strategy} with a shared store: nothing is {what} by retries that come {retries}",
            source,
            none(what),
            none_of(strategy, what, retries),
            timed=False,
            shows=(statement,),
        )
        for strategy, source, statement in (("upsert", UNIQUE, "I3"), ("idempotency-key", DRAFT, "I4"))
        for what in ("duplicated", "lost")
        for retries in ("later", "meanwhile")
    ),
    *(
        Check(
            f"{strategy}-crowd",
            f"{strategy}: of {CROWD} duplicates that come at once, one has an effect",
            source,
            f"effects 1, where request-id has more; all {CROWD} answered, the others with success or 409 (at work)",
            one_effect(strategy),
            timed=False,
            shows=(statement,),
        )
        for strategy, source, statement in (("upsert", UNIQUE, "I3"), ("idempotency-key", DRAFT, "I4"))
    ),
    Check(
        "idempotency-key-replays",
        "idempotency-key: whoever is told of a success, then or later, gets the same status and body",
        DRAFT,
        "different answers 1",
        always("idempotency-key", ANSWERS, 1, 1),
        timed=False,
        shows=("I1", "I4"),
    ),
    Check(
        "own-memory-duplicates",
        "a store in the memory of each process does not know what another has applied",
        "services/apps/memory_store.py: the memory of one process",
        "duplicated at least 1",
        between(PRIVATE, "duplicated, retries later", least=1),
        timed=False,
    ),
)

EXPERIMENT = Experiment(
    name="idempotent-retries",
    chapter="idempotency",
    question="Answers get lost and clients repeat their POST. How often is a counter raised that was asked once?",
    predict=f"On half of the counters {FAULTS:.0%} of the answers are lost, on the others {FAULTS:.0%} of the requests "
    "are sent twice: how many operations are duplicated under each strategy?",
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
            (arm("none", faults=0), arm("request-id", faults=0)),
            ("none-duplicates", "request-id-misses-meanwhile"),
        ),
        Control(
            "one-memory",
            "what each process had in its own memory is in a store that all share",
            (arm(PRIVATE, "idempotency-key"),),
            ("own-memory-duplicates",),
        ),
        Control(
            "check-then-insert",
            "instead of an INSERT under a UNIQUE constraint: look up, and then insert",
            (arm("upsert", "request-id"),),
            ("upsert-duplicated-meanwhile", "upsert-crowd"),
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
            "each process has a store of its own, and knows nothing of what others have applied",
            (arm("upsert", store="memory"), arm("idempotency-key", store="memory")),
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

And all of this only where the repetition is *seen*: it arrives on a new connection, which here is another worker's.
Processes with a store in their own memory deduplicate each for itself, which is not deduplication: the effect is there
twice in all, and who asks a third worker is told of none.

No duplicate in n faults is no proof that there never is one. By the *rule of three* it says, with a confidence of 95 %,
that fewer than 3/n of the faults lead to one: what counts is how often an answer was lost or a request sent twice, not
how many requests went well.

What a key means is not tried here but in the servers' tests: another payload under the same key is refused, a stored
response expires, and after that the same key is a new effect.
""",
)
