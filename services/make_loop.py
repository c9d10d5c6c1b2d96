"""The loop of main or of a worker, put together: an application, protocols, limits; and an application of one's own."""

from __future__ import annotations

from functools import partial
from typing import Any, NoReturn

from services.apps import Identity, adapt, make_application, open_body, spooler
from services.apps.adapter import Adapter
from services.apps.loading import LoadError, source_of
from services.apps.store import Store
from services.apps.surroundings import Surroundings
from services.messages import MEBIBYTE, Choose, Message
from services.metrics import slots
from services.metrics.sampling import Sampler
from services.net.server_loop import Limits, ServerLoop
from services.options import MODELS
from services.protocols import CommonHead, chooser
from services.workers.server import CannotServeError, Settings


def make_loop(name: str, block: slots.Block, *, settings: Settings, store: Store, blocks: slots.Slots) -> ServerLoop:
    """Make the loop of main or of a worker, with an application and a protocol of its own."""
    options = settings.options
    head = CommonHead(settings.model.encode(), name.encode())
    workers = [blocks.worker(index) for index in range(options.get("cluster") or settings.workers)]

    def count_outcome(outcome: str) -> None:
        loop.block[slots.OUTCOME[outcome]] += 1

    def healthy() -> bool:
        return all(worker[slots.STATE] != slots.CRASHED for worker in workers)

    def open_everywhere() -> int:
        # A connection on its way to a worker counts as well.
        under_way = sum(worker[slots.HANDED_OFF] - worker[slots.PICKED_UP] for worker in workers)
        return blocks.main[slots.OPEN] + sum(worker[slots.OPEN] for worker in workers) + under_way

    own = make_own_application(name, settings)
    loop = ServerLoop(
        block=block,
        sampler=Sampler(block, options["sample_rate"]),
        handle=(
            own.execute
            if own is not None
            else execute_nothing
            if options["app"]
            else make_application(Identity(settings.model, name), store, options, count_outcome, healthy)
        ),
        choose=make_chooser(options, head),
        limits=Limits(
            header_timeout=options["header_timeout"],
            body_timeout=options["body_timeout"],
            idle_timeout=options["idle_timeout"],
            write_timeout=options["write_timeout"],
            drain=options["drain"],
            max_connections=options["max_connections"],
        ),
        every_second=head.refresh,
        open_everywhere=open_everywhere,
    )
    if own is not None:
        loop.at_start.append(partial(start_own_application, own, loop))
    return loop


def make_own_application(name: str, settings: Settings) -> Adapter | None:
    """Import the application of one's own, if there is one and requests are executed here. Raises CannotServeError."""
    options = settings.options
    if not options["app"] or (name == "main" and not main_executes(options)):
        return None
    surroundings = Surroundings(
        worker=name,
        host=settings.address.host,
        port=settings.address.port,
        multithread=settings.worker_kind == "thread",
        multiprocess=settings.worker_kind == "process" and name != "main",
        hands_off=MODELS[settings.model].executes != MODELS[settings.model].writes,
    )
    try:
        source = source_of(options)
        assert source is not None
        return adapt(source, surroundings)
    except LoadError as error:
        raise CannotServeError(str(error)) from error


def start_own_application(own: Adapter, loop: ServerLoop) -> None:
    """Start it, and run its loop inside the server's. Raises CannotServeError."""
    try:
        guest = own.start()
    except LoadError as error:
        raise CannotServeError(str(error)) from error
    loop.at_end.append(own.finish)
    loop.at_close.append(own.close)
    if guest is not None:
        loop.host(guest)


def execute_nothing(message: Message) -> NoReturn:
    """Fail: main has no application where only workers execute."""
    raise AssertionError(f"main was given {message!r} to execute")


def make_chooser(options: dict[str, Any], head: CommonHead) -> Choose:
    """Make the function that gives a connection its protocol; an application of one's own speaks HTTP only."""
    if options["app"]:
        return chooser("http1", head, spooler(options["max_body"] * MEBIBYTE), tells_peer=True)
    return chooser(options["protocol"], head, open_body)


def main_executes(options: dict[str, Any]) -> bool:
    """Return whether main is what executes requests: nodejs, unless there is a cluster."""
    return options["model"] == "nodejs" and not options["cluster"]
