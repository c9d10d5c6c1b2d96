"""The lab's own options of Locust: on the command line and, the same ones, in its web page."""

from __future__ import annotations

from argparse import BooleanOptionalAction
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from lab import settings
from services.options import MODELS

if TYPE_CHECKING:
    from argparse import Namespace

    from locust.argument_parser import LocustArgumentParser
    from locust.env import Environment

SHAPES = ("none", "step", "spike")
STOP_SECONDS = 3.0
OTHER = "other"
"""The label of a target that is none of the five models."""


class Target(NamedTuple):
    """Target of the load."""

    model: str
    host: str
    port: int


def add_options(parser: LocustArgumentParser) -> None:
    """Locust calls this while it builds its command line."""
    add = parser.add_argument
    add("--model", choices=list(MODELS), default="nginx", help="which model of the stack gets the load")
    add("--keep-alive", action=BooleanOptionalAction, default=True, help="many requests a connection")
    add("--cpu", default="0ms", help="processor time of a heavy request, e.g. 5ms")
    add("--block", default="20ms", help="time that a heavy request blocks its worker, e.g. 20ms")
    add("--think", type=float, default=0.01, help="seconds a user waits between two requests; 0: none at all")
    add("--pace", type=float, default=0.0, help="seconds from one of a user's requests to its next; 0: --think instead")
    add("--timeout", type=float, default=10.0, help="seconds to wait for a connection or a response")
    add("--effect", default="0ms", help="how long the effect of a counter's POST takes, e.g. 5ms (RetryingUser)")
    add("--fresh-counters", action="store_true", help="a counter for each POST instead of each user (RetryingUser)")
    add("--lose", type=float, default=0.0, help="share of responses lost on the way (RetryingUser)")
    hidden: dict[str, bool] = {"include_in_web_ui": False}
    add("--shape", choices=SHAPES, default="none", help="how the number of users changes", **hidden)
    add("--metrics-port", type=int, default=0, help="serve /metrics here where there is no web page", **hidden)
    add("--metrics-host", default=settings.HOST, help="the address for --metrics-port", **hidden)
    add("--run", default="", help="value of the label `run` of every metric", **hidden)
    add("--watched", action="store_true", help="begin and end when Prometheus has scraped /metrics", **hidden)
    add("--result-file", default="", help="write what was measured here, as JSON", **hidden)
    # Users that wait for a response when the run ends are given so long; whoever still waits then had none.
    parser.set_defaults(stop_timeout=STOP_SECONDS)
    # Locust's own defaults would open its page and its master port to the network.
    parser.set_defaults(web_host=settings.HOST, web_port=settings.LOCUST.number, master_bind_host=settings.HOST)


def options_of(environment: Environment) -> Namespace:
    """Locust's options and ours, as they are now: the page can change them between two tests."""
    if environment.parsed_options is None:
        raise RuntimeError("this environment was made without Locust's command line")
    return environment.parsed_options


def target_of(environment: Environment) -> Target:
    """The address given as `--host` or in the page's host field; without one, the chosen model's."""
    model: str = options_of(environment).model
    if not environment.host:
        return Target(model, settings.host_of(model), settings.SERVICE_PORTS[model].number)
    text = environment.host if "//" in environment.host else f"//{environment.host}"
    address = urlsplit(text)
    host, port = address.hostname or settings.HOST, address.port or 80
    return Target(_model_at(host, port), host, port)


def _model_at(host: str, port: int) -> str:
    """In containers a model's host is named after it; in the local place its port tells which it is."""
    if host in MODELS:
        return host
    return next((name for name, known in settings.SERVICE_PORTS.items() if known.number == port), OTHER)
