"""The composition root: `python -m services MODEL [options]`, and the only file that knows all the axes.

It reads the command line, opens the admin port and makes the pieces; the model puts them to use.
"""

from __future__ import annotations

import contextlib
import errno
import faulthandler
import gc
import logging
import os
import resource
import signal
import socket
import sqlite3
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from services import command_line, standard_streams, state_folder
from services.apps import make_store
from services.apps.loading import LoadError, source_of
from services.apps.sqlite_store import CHECKPOINT_SECONDS
from services.apps.store import Store
from services.make_loop import main_executes, make_loop
from services.metrics import slots
from services.metrics.description import Description, SharedOptions
from services.models import SERVE
from services.net.acceptor import open_lock
from services.net.listener import Address, bound_socket, open_listener
from services.state_folder import StateFolder
from services.workers.control import Control
from services.workers.helper import Helper
from services.workers.main import Main
from services.workers.server import ACCEPT_LOCK, CannotServeError, Settings

BAD_USAGE = 2
MAX_WORKERS = 256
SPARE_DESCRIPTORS = 64
"""Descriptors that a server needs besides its connections."""
OUT_OF_RESOURCES = {
    errno.EMFILE: "allow more descriptors (ulimit -n), or take fewer --workers",
    errno.ENFILE: "the machine has no descriptors left: end something else",
    errno.EAGAIN: "allow more processes (ulimit -u), or take fewer --workers",
    errno.ENOMEM: "free some memory, or take fewer --workers",
}
"""Errors that no other port or folder would help against, and what to do."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM, SIGINT or SIGHUP; return 0 when drained, 2 when options or machine do not allow it.

    Does not return from other ends: 1 when stopped at once, and a signal's status when a signal kills it.
    """
    standard_streams.open_closed_streams()
    faulthandler.enable()  # a fatal signal (SIGSEGV) is logged with what each thread was doing
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(process)d %(message)s")
    options = command_line.parse(arguments)
    if sys.platform != "linux":
        return refuse("the servers need Linux (epoll, sock_diag): on this system run them in containers")
    try:
        return run(options)
    except (RefusalError, LoadError) as refusal:
        return refuse(str(refusal))
    except CannotServeError as failure:
        return refuse(str(failure)) if str(failure) else BAD_USAGE  # a process has said it itself
    except OSError as error:
        if error.errno not in OUT_OF_RESOURCES:
            raise
        return refuse(explain(error))


class RefusalError(Exception):
    """The machine does not allow what the options ask for. The text says what to do next."""


def explain(error: OSError) -> str:
    """Return why the server, or its workers, cannot start, and what to do."""
    remedy = OUT_OF_RESOURCES.get(error.errno or 0, "")
    return f"cannot start: {error.strerror or error}{'; ' if remedy else ''}{remedy}"


@contextlib.contextmanager
def refusing(what: str, remedy: str) -> Iterator[None]:
    """Turn an error into a refusal that says what could not be done, why, and what to do."""
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        if isinstance(error, OSError) and error.errno in OUT_OF_RESOURCES:
            raise
        raise RefusalError(f"{what}: {getattr(error, 'strerror', None) or error}; {remedy}") from error


def run(options: dict[str, Any]) -> int:
    """Make everything and let the model serve."""
    source_of(options)  # before anything is made, since it may be refused
    allow_descriptors(options["max_connections"])
    exit_when_stopped()
    with contextlib.ExitStack() as stack:
        folder = open_state_folder(options["state_dir"])
        stack.callback(folder.close)
        with refusing(f"cannot listen on {options['host']} port {options['port']}", "give another --host or --port"):
            reserved = reserve(options)
        with refusing(
            f"cannot listen on {options['host']} admin port {options['admin_port']}",
            "give another --admin-port, or --metrics off",
        ):
            admin = open_admin(options)
        address = Address(options["host"], reserved.getsockname()[1], options["backlog"])
        first = make_settings(options, address, folder.path)
        with refusing(f"cannot keep the store in {folder.path}", "give another --state-dir, or --store memory"):
            stores = {store_kind(options): make_store(store_kind(options), folder.path, options)}
        with refusing(f"cannot keep a control socket in {folder.path}", "give another --state-dir"):
            control = Control(folder.path, options, partial(change, folder=folder, stores=stores))
            stack.callback(control.close)
        blocks = slots.Slots(MAX_WORKERS)
        gc.freeze()  # what exists now stays shared with the workers: the collector will not touch its pages
        in_force = SharedOptions(options)
        helper = make_helper(admin, first, in_force, blocks, stores[store_kind(options)])
        server = None
        for settings in settings_in_turn(first, control):
            store = stores[store_kind(settings.options)]
            factory = partial(make_loop, settings=settings, store=store, blocks=blocks)
            ready = partial(announce, settings, admin, in_force, control, first=server is None)
            try:
                server = Main(settings, blocks, factory, helper, control, ready, stack.close, server)
                SERVE[settings.model](server)
            except (OSError, CannotServeError) as error:  # too few processes or descriptors for what a change asks for
                if not control.changing:
                    raise
                why = explain(error) if isinstance(error, OSError) else str(error)
                control.go_back(why or "the application cannot be imported")
            assert server is not None  # the predecessor, where the application cannot be imported again
            server.finish()
            if server.stopping:
                break
    # Thread workers that are stuck in a request are daemons; the interpreter's shutdown would trip over them.
    os._exit(0)


# The pieces.


def open_state_folder(name: str) -> StateFolder:
    """Lock the folder that was asked for, or a temporary one."""
    if not name:
        with refusing(f"cannot make a temporary state folder in {tempfile.gettempdir()}", "give a --state-dir"):
            return state_folder.make_temporary()
    with refusing(f"cannot use the state folder {name}", "give another --state-dir"):
        return state_folder.open_folder(Path(name))


def make_settings(options: dict[str, Any], address: Address, state_dir: Path) -> Settings:
    """Make a model's settings of the options."""
    return Settings(
        model=options["model"],
        address=replace(address, backlog=options["backlog"]),
        worker_kind=options["worker_kind"],
        workers=options["workers"],
        state_dir=state_dir,
        options=options,
    )


def settings_in_turn(settings: Settings, control: Control) -> Iterator[Settings]:
    """Yield those of the command line; then, each time a change was asked for, those to go on with."""
    yield settings
    while (options := control.wanted()) is not None:
        yield make_settings(options, settings.address, settings.state_dir)


def change(
    in_force: dict[str, Any], changes: dict[str, Any], *, folder: StateFolder, stores: dict[str, Store]
) -> dict[str, Any]:
    """Return all options as they will be after `changes`. Raises ValueError with what cannot be changed so, and why.

    What the new options need on the disk is made here, while the server still serves with the old ones.
    """
    options = command_line.change(in_force, changes)
    kind = store_kind(options)
    try:
        if kind not in stores:
            stores[kind] = make_store(kind, folder.path, options)
        if options.get("wakeup") == "mutex":
            open_lock(folder.path / ACCEPT_LOCK).close()
    except (OSError, sqlite3.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"cannot write in {folder.path}: {reason}; make room there, and try again") from error
    return options


def store_kind(options: dict[str, Any]) -> str:
    """Return the kind of store; `auto` means memory where all workers share it, sqlite where they are processes."""
    if options["store"] != "auto":
        return str(options["store"])
    several = not main_executes(options) and not options["app"]
    return "sqlite" if several and options["worker_kind"] == "process" else "memory"


def reserve(options: dict[str, Any]) -> socket.socket:
    """Hold the service port from now on. Raises OSError if it is taken."""
    address = Address(options["host"], options["port"], options["backlog"])
    # Asked without SO_REUSEPORT first: with it, the kernel would let us join a port that another server
    # of the same user has listened on for hours.
    with open_listener(address) as probe:
        port = probe.getsockname()[1]
    return bound_socket(Address(options["host"], port, 0), reuse_port=options["model"] == "reuseport")


def open_admin(options: dict[str, Any]) -> socket.socket | None:
    """Open the admin port; None with `--metrics off`, which leaves out the export, not the counters."""
    if options["metrics"] == "off":
        return None
    listener = open_listener(Address(options["host"], options["admin_port"], 128))
    listener.setblocking(True)
    return listener


def make_helper(
    listener: socket.socket | None, settings: Settings, in_force: SharedOptions, blocks: slots.Slots, store: Store
) -> Helper:
    """Fork the process that serves /metrics, /healthz and /state, and keeps house for the store.

    The store's checkpoints are made here, since they wait for the disk and here no client waits.
    """
    description = Description(
        model=settings.model,
        main_pid=os.getpid(),
        worker_kind=settings.worker_kind,
        port=settings.address.port,
        admin_host=settings.address.host,
        options=settings.options,
        in_force=in_force,
    )

    def admin() -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it ends with main, and shows the drain until then
        # A successor that was forked while threads ran keeps away from SQLite, whose locks one of them
        # may have held just then; requests make the checkpoints instead.
        options = settings.options
        may_have_threads = options["worker_kind"] == "thread" or (options["app"] and main_executes(options))
        among_threads = may_have_threads and blocks.main[slots.STATE] != 0
        keep = signal.pause if among_threads else partial(keep_house, store)
        if listener is None:
            keep()
        else:
            from services.metrics.admin import serve_admin  # 8 MiB, which no other process should carry

            threading.Thread(target=keep, daemon=True).start()
            serve_admin(listener, description, blocks)

    return Helper("admin process", admin, keep=[listener] if listener else [])


def keep_house(store: Store) -> NoReturn:
    """Let the store do from time to time what no request should wait for."""
    while True:
        time.sleep(CHECKPOINT_SECONDS)
        store.checkpoint()


def announce(
    settings: Settings, admin: socket.socket | None, in_force: SharedOptions, control: Control, *, first: bool
) -> None:
    """Say that all workers serve: where, in one line, at first; later to the client that asked for the change."""
    if not first:
        in_force.write(settings.options)
        control.settle()
        return
    where = url(settings.address.host, settings.address.port)
    admin_where = f" admin {url(*admin.getsockname()[:2])}" if admin is not None else ""
    standard_streams.print_line(f"{settings.model} ready: service {where}{admin_where} pid {os.getpid()}")


def url(host: str, port: int) -> str:
    """Return the address as a URL."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def exit_when_stopped() -> None:
    """Exit on a signal to stop, and give back what was made: until there is a main process that can drain."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, lambda *_: sys.exit(0))


def allow_descriptors(connections: int) -> None:
    """Raise the soft limit on descriptors as far as the connections need and the hard limit allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + SPARE_DESCRIPTORS
    if soft < wanted and soft != resource.RLIM_INFINITY:
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard)
        )


def refuse(text: str) -> int:
    """Say why not, in one line."""
    sys.stderr.write(f"{text}\n")
    return BAD_USAGE


if __name__ == "__main__":
    sys.exit(main())
