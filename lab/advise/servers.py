"""The servers that are tried with an application: the five models and those of production, with several workers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.peers import model as own
from lab.peers.application import HOSTS, Application
from services.options import MODELS

if TYPE_CHECKING:
    from lab.peers.process import Cpus, Peer

SINGLE = "nodejs"
"""The model that has one worker, or a cluster of them."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A server with so many workers."""

    server: str
    workers: int
    kind: str
    """`model`, or `peer` for a server of production."""
    start: Callable[[Cpus], AbstractContextManager[Peer]]

    @property
    def name(self) -> str:
        """Return the name of its row."""
        return f"{self.server} × {self.workers}"


NAMES = (*MODELS, *HOSTS)


def candidates(application: Application, workers: Iterable[int], cores: int) -> Iterator[Candidate]:
    """Yield each model with each number of workers; then gunicorn and uvicorn, where they are installed.

    These have as many workers as their own documentation advises: gunicorn twice the cores and one, uvicorn one a core.
    """
    counts = sorted(set(workers))
    for name in MODELS:
        yield from (Candidate(name, count, "model", _model(application, name, count)) for count in counts)
    for peer, count in zip(HOSTS.values(), (2 * cores + 1, cores), strict=True):
        if peer.available():
            yield Candidate(peer.NAME, count, "peer", _peer(application, peer.start, count))


def _model(application: Application, name: str, count: int) -> Callable[[Cpus], AbstractContextManager[Peer]]:
    workers = [] if name == SINGLE and count == 1 else ["--cluster" if name == SINGLE else "--workers", str(count)]
    return lambda cpus: own.start(name, *workers, *application.options, cpus=cpus)


def _peer(
    application: Application, start: Callable[..., AbstractContextManager[Peer]], count: int
) -> Callable[[Cpus], AbstractContextManager[Peer]]:
    return lambda cpus: start(0, count, cpus, application.spec, str(application.folder))
