"""One request blocks for a second. Whose requests wait for it?"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from lab.experiments import theory
from lab.harness.checks import always, between, shown
from lab.harness.experiment import Check, Control, Experiment, Finding
from lab.harness.observation import FAILED, GENERATOR_CPU, Arm, Observation, Quantity
from lab.harness.trial import TrialError, ask_on
from lab.load.plan import Stream

if TYPE_CHECKING:
    import socket

    from lab.harness.experiment import Results
    from lab.harness.trial import Server, Trial

WORKERS = 4
CONNECTIONS = 32
"""Enough that no worker owns all of them."""
CONNECT_GAP_SECONDS = 0.002
"""So that every connection meets workers that wait. All at once, one worker of nginx took all 32 in 5 % of starts."""
RATE = 20.0
"""Requests a second on each, at fixed times, whether the last was answered or not."""
BLOCK_SECONDS = 0.7
DELAYED_SECONDS = BLOCK_SECONDS / 2
"""A request that came at any time in the first half of the block and waited for its end took at least this long."""
STARTING_SECONDS = 0.3
"""Until every connection has been asked on, twice."""
LEAD_SECONDS = 0.2
TOLERANCE = 0.15
"""Of the longest wait: perhaps no request comes in the first moments, and those that queued are answered in turn."""
ATTEMPTS = 200
LONGEST = "longest wait"
MISMATCH = "delayed but not owned, or owned but not delayed"

NODE = "nodejs.org, Don't Block the Event Loop"
OWNER = 'docs/design.md, "Models": who accepts, or is handed, a connection executes all of its requests'
RAMCLOUD = "RAMCloud, WorkerManager::handleRpc: requests are handed off, not connections"


def trial(trial: Trial) -> Observation:
    """Ask steadily on many connections, block one worker, and see which connections had to wait."""
    with trial.serving() as server:
        streams = [Stream(str(number), rate=RATE, poisson=False) for number in range(CONNECTIONS)]
        seconds = STARTING_SECONDS + LEAD_SECONDS + 2 * BLOCK_SECONDS
        load_of_all = trial.loading(
            server, *streams, seconds=seconds, warm_up_seconds=0.0, connect_gap_seconds=CONNECT_GAP_SECONDS
        )
        with load_of_all as loading:
            server.wait_until_asked(2 * CONNECTIONS)
            time.sleep(LEAD_SECONDS)
            blocked = block(trial, server)
            if loading.process.poll() is not None:
                raise TrialError("the load was over before the worker was free again: run it on a machine less busy")
            load = loading.result()
    results = load.streams.values()
    delayed = {result.name for result in results if result.max_seconds >= DELAYED_SECONDS}
    owned = {result.name for result in results if blocked in result.workers and len(result.workers) == 1}
    return Observation(
        {
            "delayed": Quantity(len(delayed)),
            "owned by the blocked worker": Quantity(len(owned)),
            MISMATCH: Quantity(len(delayed ^ owned)),
            # Not Little's law: it is of a load that is steady, and this one is meant not to be.
            FAILED: Quantity(load.failed),
            GENERATOR_CPU: Quantity(load.cpu),
            LONGEST: Quantity(max(result.max_seconds for result in results) * 1000, "ms"),
        },
        latencies=load.latencies("response time"),
        shares={"connections": {"delayed": len(delayed), "not delayed": CONNECTIONS - len(delayed)}},
    )


def block(trial: Trial, server: Server) -> str:
    """Send the blocking request to the worker that has the most connections; who that was.

    A connection goes to whom it goes; so ask on new ones until it is the right one's.
    """
    workers = server.state()["workers"]
    most = max(workers, key=lambda worker: worker["connections"])["worker"]
    for _ in range(ATTEMPTS):
        with trial.connect(server.address, timeout_seconds=10 * BLOCK_SECONDS) as connection:
            if ask_on(connection, "/") == most or len(workers) == 1 or trial.arm.model == "ramcloud":
                return blocked_on(connection, trial.parameter("blocks for"))
    raise TrialError(
        f"none of {ATTEMPTS} connections went to worker {most}, which has the most: run it again, and if it stays so, "
        f"see how {trial.arm.model} hands out connections"
    )


def blocked_on(connection: socket.socket, seconds: float) -> str:
    """Return the worker that a request blocked for so many seconds. Raises TrialError where it was for less."""
    begun = time.monotonic()
    worker = ask_on(connection, f"/work?block={seconds * 1000:.0f}ms")
    taken = time.monotonic() - begun
    if taken < seconds:
        raise TrialError(f"a request that blocks for {seconds:g} s was answered after {taken:.3f} s: see GET /work")
    return worker


def arm(model: str, *, blocks_for: float = BLOCK_SECONDS, **options: int) -> Arm:
    """A model whose worker is blocked for so many seconds."""
    return Arm(model, model, options, parameters={"blocks for": blocks_for})


def exactly_its_own(model: str) -> Check:
    """The connections that wait are those of the blocked worker."""

    def judge(results: Results) -> Finding:
        delayed, mismatch = results[model].summary("delayed"), results[model].summary(MISMATCH)
        holds = mismatch["max"] == 0 and delayed["min"] >= 1 and delayed["max"] < CONNECTIONS
        return Finding(f"delayed {shown(delayed)}, {MISMATCH} {shown(mismatch)}", holds)

    return Check(
        f"{model}-own-only",
        f"{model}: the blocked worker's connections wait, all of them, and nobody else's",
        OWNER,
        "delayed are exactly those that the blocked worker owns, at least one and not all",
        judge,
        timed=False,
    )


OWNERS = ("memcached", "nginx", "reuseport")

EXPERIMENT = Experiment(
    name="event-loop-blocking",
    chapter="models",
    question=f"{CONNECTIONS} clients ask steadily; one request blocks its worker for {BLOCK_SECONDS:g} s. Who waits?",
    predict=f"For each model with {WORKERS} workers: how many of the {CONNECTIONS} connections are held up?",
    arms=(arm("nodejs"), *(arm(model, workers=WORKERS) for model in ("memcached", "ramcloud", "nginx", "reuseport"))),
    trial=trial,
    checks=(
        Check(
            "nodejs-all",
            "one loop: everybody waits",
            NODE,
            f"delayed {CONNECTIONS} of {CONNECTIONS}, in every trial",
            always("nodejs", "delayed", CONNECTIONS, CONNECTIONS),
            timed=False,
            shows=("L2",),
            corrects=theory.NODE_AND_CONNECTIONS,
        ),
        Check(
            "nodejs-as-long",
            "and whoever came first, when the block began, waits as long as it lasts",
            NODE,
            f"longest wait {BLOCK_SECONDS * 1000:.0f} ms ± {TOLERANCE:.0%}",
            between("nodejs", LONGEST, (1 - TOLERANCE) * BLOCK_SECONDS * 1000, (1 + TOLERANCE) * BLOCK_SECONDS * 1000),
            timed=True,
        ),
        *(exactly_its_own(model) for model in OWNERS),
        Check(
            "ramcloud-none",
            "requests are handed to whoever is free: nobody waits",
            RAMCLOUD,
            "delayed 0, in every trial",
            always("ramcloud", "delayed", 0, 0),
            timed=False,
            corrects=theory.RAMCLOUD_HANDS_CONNECTIONS,
        ),
    ),
    controls=(
        Control(
            "nothing-blocks",
            "the request does not block",
            (arm("nodejs", blocks_for=0), *(arm(model, blocks_for=0, workers=WORKERS) for model in OWNERS)),
            ("nodejs-all", "nodejs-as-long", *(f"{model}-own-only" for model in OWNERS)),
        ),
        Control("no-worker-is-free", "ramcloud has one worker", (arm("ramcloud", workers=1),), ("ramcloud-none",)),
    ),
    repetitions=3,
    explanation="""\
An event loop does one thing at a time. While a handler blocks (a slow query, a big computation) the loop reads nothing,
writes nothing and accepts nothing: every connection of that loop waits, and new ones pile up in the accept queue.

More loops make the same mistake smaller: with four workers that each own their connections, those of one worker are
hit. That is a quarter where connections were dealt out in turn; here it is the worker that owns most of them, which may
be half. And it is always the *same* ones, however idle the other workers are: adding workers never gets a blocked
connection served.

A load generator that sends its next request only after the last answer asks a blocked server once a connection, and
then reports one slow request each. Here requests are meant to start at fixed times, and their wait counts from then:
the two curves of the response times differ by what is called *coordinated omission*.

A dispatcher that hands over *requests* has no such tie. As long as one worker is free nobody notices. The price is a
hand-off for every request, also for the cheap ones (see `dispatch-bottleneck`).
""",
)
