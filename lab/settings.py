"""Places of the parts of the stack: ports (each moved by a `LAB_…` variable) and the state folder."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from services.options import MODELS


def variable(name: str, default: str = "") -> str:
    """Return a variable of the environment. One that is empty counts as not set, as in Compose's `${NAME:-default}`."""
    return os.environ.get(name) or default


CODE = Path(__file__).resolve().parents[1]
"""Folder of the packages `services`, `lab` and `loadtests`: the checkout, or where pip has installed them."""
CARRIED = Path("lab", "checkout")
"""Folder in a wheel with what else of a checkout the lab needs (setup.py)."""
INSTALLED = (CODE / CARRIED).is_dir()
CHECKOUT = CODE / CARRIED if INSTALLED else CODE
if INSTALLED:
    # Nothing is written where packages are. All that we start has the folder from here, whichever it runs in itself.
    os.environ["LAB_STATE_DIR"] = variable("LAB_STATE_DIR", str(Path.cwd() / ".lab"))
ON_HOSTS = variable("LAB_PLACE") == "vms"
"""True on a host of the vms place: an inventory says there what runs where, and with which options."""
IN_CONTAINERS = variable("LAB_PLACE") == "containers"
"""True in the live page of the containers place."""
WITHOUT_MAKEFILE = INSTALLED or ON_HOSTS or IN_CONTAINERS
"""A wheel has none; nor have a host and an image, which cannot tell whether it was `make` that started them."""
UP, DOWN, STATUS, LOAD, SETUP = (
    ("lab up", "lab down", "lab status", "lab load nginx", "pip install 'accept-lab[lab]'")
    if WITHOUT_MAKEFILE
    else ("make lab-up", "make lab-down", "make lab-status", "make load MODEL=nginx", "make setup")
)
"""Commands that messages name."""
STATE_DIR = Path(variable("LAB_STATE_DIR", str(CHECKOUT / ".lab")))
"""Everything that runs leaves its state, logs and results here and nowhere else."""

PROJECT = variable("COMPOSE_PROJECT_NAME", "accept-lab")
"""Name that Compose gives the stack, and labels all that it makes with."""

HOST = "127.0.0.1"


class SettingError(Exception):
    """A `LAB_…` variable holds something unusable; the text says which and what it takes."""


def up_at(place: str) -> str:
    """Return the command that starts the stack in a place, for messages."""
    return f"lab up --place {place}" if WITHOUT_MAKEFILE else f"make lab-up PLACE={place}"


def require_checkout() -> None:
    """End in one line where the lab is an installed wheel: pages of the repository are made in a checkout of it."""
    if INSTALLED:
        raise SystemExit("lab: this writes pages of the repository, so it needs a checkout; here the lab is installed")


@dataclass(frozen=True, slots=True)
class Port:
    """One port of the stack and the variable that moves it."""

    part: str
    default: int

    @property
    def variable(self) -> str:
        """The variable that moves it."""
        return self._named("PORT")

    @property
    def number(self) -> int:
        """The port in force. Raises SettingError."""
        text = variable(self.variable, str(self.default))
        if not text.isdecimal() or not 0 < int(text) < 65536:
            raise SettingError(f"{self.variable}={text!r}: give a port number from 1 to 65535")
        return int(text)

    @property
    def url(self) -> str:
        """Its root on this machine."""
        return f"http://{HOST}:{self.number}"

    @property
    def given_url(self) -> str:
        """Its root for us and for browsers, where a variable such as `LAB_GRAFANA_URL` gives one; or else empty."""
        return variable(self._named("URL")).rstrip("/")

    @property
    def found_at(self) -> str:
        """The root that this process finds it at. Raises SettingError."""
        # In containers it is found under its own name, at its own port; the one published is for browsers.
        host = variable(self._named("HOST"), HOST)
        return self.given_url or (self.url if host == HOST else f"http://{host}:{self.default}")

    def _named(self, ending: str) -> str:
        return f"LAB_{self.part.upper().replace('-', '_')}_{ending}"


def host_of(model: str) -> str:
    """The host that a model's service is on: this machine, unless a variable such as `LAB_NGINX_HOST` names another.

    For whoever makes load: in containers every model has a host of its own.
    """
    return variable(f"LAB_{model.upper()}_HOST", HOST)


HOST_NAME = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*", re.IGNORECASE)
"""Characters that browsers send in a name; other languages' names they send in the same ones, as `xn--…`."""


def host_names(text: str, variable: str) -> list[str]:
    """Return the host names in a list with commas or spaces. Raises SettingError where one is none."""
    names = text.replace(",", " ").split()
    for name in names:
        if not HOST_NAME.fullmatch(name):
            raise SettingError(f"{variable}: {name!r} is no host name: give names such as lab.example, without a port")
    return names


def console_names() -> list[str]:
    """Host names, beside localhost and addresses, by which browsers may call the live page. Raises SettingError."""
    given = host_names(os.environ.get("LAB_CONSOLE_NAMES", ""), "LAB_CONSOLE_NAMES")
    return list(dict.fromkeys([*given, *names_in_codespace()]))


def names_in_codespace() -> list[str]:
    """Return the name that a codespace of GitHub gives the live page's port; nothing elsewhere. Raises SettingError."""
    codespace = os.environ.get("CODESPACE_NAME", "")
    if os.environ.get("CODESPACES") != "true" or not HOST_NAME.fullmatch(codespace):
        return []
    domain = os.environ.get("GITHUB_CODESPACES_PORT_FORWARDING_DOMAIN") or "app.github.dev"
    return [f"{codespace}-{CONSOLE.number}.{domain}"]


SERVICE_PORTS = {name: Port(name, 8001 + place) for place, name in enumerate(MODELS)}
ADMIN_PORTS = {name: Port(f"{name}-admin", 9101 + place) for place, name in enumerate(MODELS)}
PROMETHEUS = Port("prometheus", 9090)
GRAFANA = Port("grafana", 3000)
LOCUST = Port("locust", 8089)
CONSOLE = Port("console", 8080)
PORTS = (*SERVICE_PORTS.values(), *ADMIN_PORTS.values(), PROMETHEUS, GRAFANA, LOCUST, CONSOLE)
