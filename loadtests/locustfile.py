"""Composition of the load test: which users there are, the lab's options, shapes and the exporter.

`locust -f loadtests/locustfile.py --class-picker` opens the page at 127.0.0.1:8089; there the target
model, the users and a shape are chosen. `LAB_USERS="keep-alive connect"` leaves only those kinds to
choose from. Without the page: `make load`, or `--headless` with the names of users at the end.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from locust import events, runners

from loadtests import shapes
from loadtests.exporter import Exporter
from loadtests.kinds import KINDS, classes_of
from loadtests.options import add_options, options_of, target_of
from loadtests.users.own import users_in

if TYPE_CHECKING:
    from locust.env import Environment

# Seconds of silence after which the master gives a worker up, and with the last one the whole test. A worker's business
# is to be busy: Locust's own 3 s ended tests on a slow host (an emulated one) as soon as the first users started.
runners.HEARTBEAT_LIVENESS = 30

# Locust runs every user class that it finds in this file's namespace. It would apply a shape found here
# to every run, so shapes are chosen in `begin` instead.
# `LAB_USER_FILE` names a file whose classes take the place of the lab's: `lab load MODEL --file my.py`.
USER_FILE = os.environ.get("LAB_USER_FILE", "")
globals().update(users_in(USER_FILE) if USER_FILE else classes_of(os.environ.get("LAB_USERS", "").split() or KINDS))

events.init_command_line_parser.add_listener(add_options)


@events.init.add_listener
def begin(environment: Environment, **_: object) -> None:
    """Locust is about to start: its options are parsed, its runner and page are made."""
    chosen = {name: shape() for name, shape in shapes.SHAPES.items()}
    environment.available_shape_classes = {type(shape).__name__: shape for shape in chosen.values()}
    environment.shape_class = chosen.get(options_of(environment).shape)
    if environment.shape_class:
        environment.shape_class.runner = environment.runner
    if USER_FILE and not environment.host:
        # Locust's own HttpUser takes its host from here.
        target = target_of(environment)
        environment.host = f"http://{target.host}:{target.port}"
    Exporter(environment).attach()
