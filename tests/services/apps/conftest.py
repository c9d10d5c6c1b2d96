"""An application on each kind of store, with a clock that tests turn by hand."""

from collections import Counter
from dataclasses import dataclass, field

import pytest

from services.apps import Identity, make_application
from services.apps.memory_store import MemoryStore
from services.apps.sqlite_store import SqliteStore
from services.messages import Command, Request

EPOCH_SECONDS = 1_700_000_000.0


@dataclass
class Clock:
    now: float = EPOCH_SECONDS

    def __call__(self) -> float:
        return self.now


@dataclass
class Client:
    """Asks an application, and keeps the outcomes it counted."""

    store: object
    options: dict
    healthy: bool = True
    outcomes: Counter = field(default_factory=Counter)

    def __post_init__(self):
        self.application = make_application(
            Identity("nginx", "3"), self.store, self.options, self._count, lambda: self.healthy
        )

    def _count(self, outcome):
        self.outcomes[outcome] += 1

    def http(self, method, target, body=b"", **headers):
        lines = {name.replace("_", "-").encode(): value for name, value in headers.items()}
        lines.setdefault(b"content-length", b"%d" % len(body))
        return self.application(Request(method, target, lines, body, len(body)))

    def memcache(self, name, *keys, **fields):
        return self.application(Command(name, keys, **fields))


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture(params=["memory", "sqlite"])
def store(request, clock, tmp_path):
    return MemoryStore(clock) if request.param == "memory" else SqliteStore(tmp_path, clock)


@pytest.fixture
def make_client(store):
    return lambda **options: Client(store, options)


@pytest.fixture
def client(make_client):
    return make_client()
