"""Links to Grafana, Prometheus and Locust: where each is, or what is missing and how to get it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from nicegui import context, run, ui

from lab import settings
from lab.stack import probe

if TYPE_CHECKING:
    from lab.settings import Port

PROBE_SECONDS, PROBE_EVERY_SECONDS = 1.0, 10.0
TIME = {"from": "now-15m", "to": "now", "refresh": "5s"}
"""Settings that the page itself remembers."""


@dataclass(frozen=True, slots=True)
class Link:
    """One tool beside this page."""

    name: str
    port: Port
    health_path: str
    missing: str

    def answers(self) -> bool:
        """Return whether it is there. Takes up to `PROBE_SECONDS`."""
        return probe.answers(self.port.found_at, self.health_path, PROBE_SECONDS)


TOOLS = (
    ("Grafana", settings.GRAFANA, "/api/health"),
    ("Prometheus", settings.PROMETHEUS, "/-/ready"),
    ("Locust", settings.LOCUST, "/"),
)
"""Name, port and path of health of each."""
DASHBOARDS = {"": "lab-compare", "model": "lab-anatomy"}
"""The uid of the dashboard that shows what the page shows: all models, or one."""


def links_here() -> tuple[Link, ...]:
    """Return the links, with what to do here about one that is missing."""
    return tuple(Link(*tool, missing) for tool, missing in zip(TOOLS, remedies(), strict=True))


def remedies() -> tuple[str, str, str]:
    """Return what to do here about each of `TOOLS` where it is missing."""
    up = settings.UP
    if settings.ON_HOSTS:
        up = settings.up_at("vms")
        return f"add a package source that has it to this host, then `{up}`", f"`{up}` starts it", f"`{up}` starts it"
    if settings.IN_CONTAINERS:
        grafana, prometheus = (
            f"`{up}` says why; LAB_{name}_IMAGE names another image" for name in ("GRAFANA", "PROMETHEUS")
        )
        return grafana, prometheus, f"`{up}` starts it"
    return (
        f"comes with containers: `{settings.up_at('containers')}`",
        f"install your system's prometheus package, then `{up}`",
        f"`{up}` starts it",
    )


def path_of(link: Link, model: str) -> str:
    """Return the path in the tool to begin at: of what this page shows, and at its time."""
    if link.port is settings.GRAFANA:
        chosen = {"var-model": model} if model else {}
        return f"/d/{DASHBOARDS['model' if model else '']}?{urlencode({**TIME, **chosen})}"
    if link.port is settings.PROMETHEUS:
        return "/query?" + urlencode({"g0.expr": "sum by (model) (rate(lab_requests_total[5s]))", "g0.tab": "graph"})
    return "/"


def show(model: str) -> None:
    """The links, each with what is missing while it does not answer."""
    host = host_of_the_page()
    shown = {}
    for link in links_here():
        with ui.element("span").classes("tool"):
            root = link.port.given_url or root_of(link.port, host)
            anchor = ui.link(link.name, root + path_of(link, model), new_tab=True)
            shown[link] = anchor, ui.label("").classes("missing")

    async def probe() -> None:
        # None while the page is being shut down.
        for link, there in zip(shown, await run.io_bound(probe_all) or [False] * len(shown), strict=True):
            anchor, missing = shown[link]
            anchor.set_visibility(there)
            missing.set_text("" if there else f"no {link.name}: {link.missing}")

    ui.timer(PROBE_EVERY_SECONDS, probe)


def probe_all() -> list[bool]:
    """Return whether each of the links responds."""
    with ThreadPoolExecutor(len(TOOLS)) as pool:
        return list(pool.map(Link.answers, links_here()))


def host_of_the_page() -> str:
    """By what name the browser has found us, which is where the others are, too."""
    request = context.client.request
    forwarded = request.headers.get("x-forwarded-host", "")
    host = forwarded if own_name() in forwarded else request.url.hostname or settings.HOST
    return f"[{host}]" if ":" in host else host


def own_name() -> str:
    """Part of this page's name where a forwarder gives each port one: NAME-8080.example beside NAME-9090.example."""
    return f"-{settings.CONSOLE.number}."


def root_of(port: Port, host: str) -> str:
    """Return where a browser finds a port of the machine that it has found this page on, as `host`."""
    if own_name() in host:
        return f"https://{host.replace(own_name(), f'-{port.number}.')}"
    return f"http://{host}:{port.number}"
