"""The models, their options, and which combinations are valid: as data.

The command line, `lab models`, the conformance tests, Compose and Ansible all read this table.
It imports nothing of the servers, so that anything may import it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

WORKER_KINDS = ("thread", "process")
PROTOCOLS = ("auto", "http1", "memcache", "echo")
STORES = ("auto", "memory", "sqlite")
INTERFACES = ("auto", "wsgi", "asgi")
IDEMPOTENCY = ("idempotency-key", "none", "request-id", "upsert")
TRUTHS = {"true": True, "false": False, "on": True, "off": False, "yes": True, "no": False}


@dataclass(frozen=True, slots=True)
class Option:
    """One command-line option: `--name`, its type by its default, `choices` in order of interest."""

    name: str
    default: Any
    help: str
    choices: tuple[str, ...] = ()
    teaches: str = ""
    minimum: float = 0
    maximum: float | None = None
    live: bool = False
    """Can be changed while the server runs (`lab set`)."""

    @property
    def key(self) -> str:
        """The name as an identifier."""
        return self.name.replace("-", "_")

    def read(self, text: str) -> Any:
        """The value that `text` stands for. Raises ValueError with what is wrong and what to give."""
        if isinstance(self.default, bool):
            if text.lower() not in TRUTHS:
                raise ValueError(f"{text!r}: give one of {', '.join(TRUTHS)}")
            return TRUTHS[text.lower()]
        if self.choices and text not in self.choices:
            raise ValueError(f"{text!r}: give one of {', '.join(self.choices)}")
        return text if isinstance(self.default, str) else self._read_number(text)

    def _read_number(self, text: str) -> float:
        try:
            number: float = type(self.default)(text)
        except ValueError:
            raise ValueError(f"{text!r} is not a {'whole ' * isinstance(self.default, int)}number") from None
        if not math.isfinite(number):
            raise ValueError(f"{text!r} is not a number of this world")
        if number < self.minimum or (self.maximum is not None and number > self.maximum):
            most = "" if self.maximum is None else f" to {self.maximum:g}"
            raise ValueError(f"{text}: give a number from {self.minimum:g}{most}")
        return number


@dataclass(frozen=True, slots=True)
class Model:
    """One row of the table in docs/design.md, "Models"."""

    name: str
    listens: str
    accepts: str
    reads: str
    executes: str
    writes: str
    term: str
    worker_kinds: tuple[str, ...]
    options: tuple[Option, ...] = ()


MODELS: dict[str, Model] = {
    model.name: model
    for model in (
        Model(
            "nodejs",
            "main",
            "main",
            "main",
            "main",
            "main",
            "single-threaded event loop (reactor)",
            ("process",),
            (
                Option(
                    "cluster",
                    0,
                    "child processes that serve in main's place; 0: main serves alone",
                    teaches="one loop uses one core; a cluster uses several, and then someone must spread connections",
                    maximum=256,
                    live=True,
                ),
                Option(
                    "scheduling",
                    "round-robin",
                    "who accepts for the cluster",
                    ("round-robin", "shared-handle"),
                    teaches="the primary deals connections out evenly; with a shared handle the kernel decides",
                    live=True,
                ),
            ),
        ),
        Model(
            "memcached",
            "main",
            "main",
            "worker",
            "same worker",
            "same worker",
            "connection hand-off",
            WORKER_KINDS,
            (
                Option(
                    "assign",
                    "round-robin",
                    "which worker gets the next connection",
                    ("round-robin", "least-connections"),
                    teaches="both are blind to what a connection costs: one hot connection loads one worker",
                    live=True,
                ),
            ),
        ),
        Model(
            "ramcloud",
            "main (dispatch)",
            "main",
            "main",
            "any free worker",
            "dispatch",
            "request hand-off, dispatch/worker",
            WORKER_KINDS,
            (
                Option(
                    "dispatch",
                    "request-idle-stack",
                    "which worker gets the next request",
                    ("request-idle-stack", "request-fifo", "request-least-loaded", "connection"),
                    teaches="handing over requests spreads a hot connection; handing over connections does not",
                    live=True,
                ),
            ),
        ),
        Model(
            "nginx",
            "main opens one socket",
            "workers compete on it",
            "same worker",
            "same worker",
            "same worker",
            "shared listening socket",
            ("process", "thread"),
            (
                Option(
                    "wakeup",
                    "exclusive-rotating",
                    "which waiting worker a new connection wakes",
                    ("exclusive-rotating", "exclusive", "herd", "mutex", "blocking"),
                    teaches="the kernel's wait queue decides: one waiter keeps winning, all wake, or they take turns",
                    live=True,
                ),
            ),
        ),
        Model(
            "reuseport",
            "every worker opens its own",
            "same worker",
            "same worker",
            "same worker",
            "same worker",
            "socket sharding",
            ("process", "thread"),
            (
                Option(
                    "steering",
                    "hash",
                    "how the kernel picks a listener",
                    ("hash", "cpu"),
                    teaches="a queue for each worker: no contention, and no help from a free neighbour",
                    live=True,
                ),
            ),
        ),
    )
}

COMMON: tuple[Option, ...] = (
    Option("host", "127.0.0.1", "address to listen on"),
    Option("port", 8000, "service port; 0 takes a free one", maximum=65535),
    Option("admin-port", 9100, "port of /metrics, /healthz and /state; 0 takes a free one", maximum=65535),
    Option("workers", 4, "number of workers", minimum=1, maximum=256, live=True),
    Option("worker-kind", "", "thread or process; by default the model's own", WORKER_KINDS),
    Option("protocol", "auto", "what is spoken; auto tells HTTP from memcached by the first byte", PROTOCOLS),
    Option(
        "backlog",
        128,
        "limit of the accept queue (the kernel also caps it at net.core.somaxconn)",
        minimum=0,
        maximum=65535,
        live=True,
    ),
    Option("app", "", "an application of your own, as MODULE:ATTRIBUTE (shop:app); by default the built-in one"),
    Option("app-dir", ".", "folder in which its module is looked for first"),
    Option("interface", "auto", "how the application is called; auto tells by its signature", INTERFACES),
    Option("max-body", 64, "MiB of a request's body for your own application; more is refused", minimum=1),
    Option("store", "auto", "auto: memory where all workers share it, sqlite where they are processes", STORES),
    Option("idempotency", "idempotency-key", "how a repeated POST is recognised", IDEMPOTENCY, live=True),
    Option("require-key", False, "respond with 400 to a POST without an Idempotency-Key", live=True),
    Option("key-ttl", 86400.0, "seconds an idempotency key is remembered", minimum=0.001, live=True),
    Option(
        "keys-memory",
        64,
        "MiB of idempotency keys; the oldest finished ones make room, none younger than 10 s",
        minimum=1,
    ),
    Option("increments-memory", 48, "MiB of increments' ids; the oldest make room, none younger than 10 s", minimum=1),
    Option("metrics", "on", "off leaves out the admin port; the counters are kept all the same", ("on", "off")),
    Option("sample-rate", "auto", "time the stages of one request in N; auto adapts N to the load"),
    Option(
        "max-connections",
        16384,
        "connections served at once; more are closed and counted (a burst on reuseport may exceed it)",
        minimum=1,
        live=True,
    ),
    Option("drain", 10.0, "seconds that requests in flight may take after SIGTERM", live=True),
    Option("header-timeout", 10.0, "seconds from a request's first byte to the end of its head", minimum=0.01),
    Option("body-timeout", 30.0, "seconds a peer may go without sending any of a request's body", minimum=0.01),
    Option("idle-timeout", 75.0, "seconds a connection may wait for its next request", minimum=0.01),
    Option("write-timeout", 30.0, "seconds a peer may go without taking a byte of a response", minimum=0.01),
    Option("state-dir", "", "where sqlite files and control.sock live; by default a temporary folder"),
)


def options_of(model: str) -> tuple[Option, ...]:
    """Every option that `model` takes, the common ones first."""
    return COMMON + MODELS[model].options


def matrix() -> list[tuple[str, str, str]]:
    """Every valid (model, worker kind, protocol)."""
    return [
        (model.name, kind, protocol)
        for model in MODELS.values()
        for kind in model.worker_kinds
        for protocol in PROTOCOLS
    ]
