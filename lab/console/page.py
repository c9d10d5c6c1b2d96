"""The page itself, with NiceGUI: a Python page that a Python textbook can show.

NiceGUI makes the frame and the controls. What moves, moves by `static/script.js`, which asks for `live.json`: so a
sample is put into words once, however many look, and a model under load is not disturbed by who watches it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from lab import settings

os.environ.setdefault(
    "NICEGUI_STORAGE_PATH", str(settings.STATE_DIR / "console")
)  # before it is imported: it reads it then

from fastapi import Response
from nicegui import app, ui

from lab.console import anatomy, compare, experiments, links, runs, trials, tryit, xray
from lab.console.guard import Guard
from lab.console.history import UNWATCHED_SECONDS, History
from lab.console.live import Live
from lab.console.loads import Loads
from lab.experiments import all_experiments
from lab.top import stack_sources
from services.options import MODELS

if TYPE_CHECKING:
    from collections.abc import Collection

TITLE = "Five ways to accept a connection"
STATIC = Path(__file__).parent / "static"
PRIMARY = "#1c6fc4"
"""Of buttons: white on it, and it on both papers, have the contrast that WCAG asks for."""
JSON = "application/json"
PAGES = {"/": "X-ray", "/compare": "Compare", "/experiments": "Experiments", "/runs": "Runs"}
HEAD = """
<link rel="stylesheet" href="/lab/style.css">
<link rel="icon" href="/lab/icon.svg">
<meta name="description" content="Who listens, who accepts, who reads, who executes, and what does that cost?">
<script src="/lab/script.js" defer></script>
"""


def serve(host: str, port: int, names: Collection[str] = (), idle_interval_seconds: float = UNWATCHED_SECONDS) -> None:
    """Serve the page until SIGINT or SIGTERM.

    `names` are host names by which browsers may call it. While nobody looks, the models are asked only every
    `idle_interval_seconds`.
    """
    history = History(stack_sources(), unwatched_seconds=idle_interval_seconds)
    loads = Loads(experiment=lambda: trial.running())
    trial = experiments.Trial(under_load=loads.under_load)
    app.add_middleware(Guard, names=names, ports={port, settings.CONSOLE.number})
    app.add_static_files("/lab", STATIC, max_cache_age=0)
    app.on_startup(history.start)
    for close in (history.close, loads.close, trial.close):
        app.on_shutdown(close)
    add_figures(history)
    add_pages(history, loads, trial)
    experiments.add_reports(app)
    runs.add_comparison(app)
    ui.add_head_html(HEAD, shared=True)
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    app.on_startup(lambda: print(f"console ready: {url}", flush=True))
    # Nothing here is bound to a variable, so nothing has to look for changed ones ten times a second.
    ui.run(
        host=host, port=port, title=TITLE, reload=False, show=False, dark=None, tailwind=False,
        show_welcome_message=False, binding_refresh_interval=None, favicon=STATIC / "icon.svg",
    )  # fmt: skip


def add_figures(history: History) -> None:
    """Add the addresses that the script asks for."""
    live = Live(history)

    @app.get("/healthz")
    def healthy() -> Response:
        if history.is_stale():
            problem = f"the latest figures are {history.age_seconds():.0f} s old\n"
            return Response(problem, status_code=503, media_type="text/plain")
        return Response("ok\n", media_type="text/plain")

    @app.get("/live.json")
    def latest() -> Response:
        history.looked()
        return Response(live.text(), media_type=JSON)

    @app.get("/series.json")
    def series(since: float = 0.0) -> Response:
        history.looked()
        return Response(live.series(since), media_type=JSON)

    @app.get("/drawing/{model}")
    def drawing(model: str) -> Response:
        found = next((reading for reading in history.readings if reading.model == model and reading.up), None)
        if found is None:
            return Response(status_code=204)  # not an error: it has gone down since it was asked for
        return Response(anatomy.draw(model, anatomy.workers_of(found), found.options), media_type="text/html")


def add_pages(history: History, loads: Loads, trial: experiments.Trial) -> None:
    """Add the pages."""

    @ui.page("/", title=f"X-ray · {TITLE}")
    def every_model() -> None:
        with frame("/", loads, history):
            ui.html(f'<div class="models">{xray.cards(MODELS)}</div>', sanitize=False).classes("wide-content")

    @ui.page("/model/{model}", title=f"X-ray · {TITLE}")
    def one_model(model: str) -> None:
        with frame("/", loads, history, model):
            known = [model] if model in MODELS else []
            content = f'<div class="models alone">{xray.cards(known)}</div>'
            ui.html(content if known else f"<p>{unknown()}</p>", sanitize=False).classes("wide-content")

    @ui.page("/compare", title=f"Compare · {TITLE}")
    def side_by_side() -> None:
        with frame("/compare", loads, history):
            ui.html(compare.content(), sanitize=False).classes("wide-content")

    @ui.page("/runs", title=f"Runs · {TITLE}")
    def stored_runs() -> None:
        with frame("/runs", None, history):
            ui.html(runs.content(), sanitize=False).classes("wide-content")

    @ui.page("/experiments", title=f"Experiments · {TITLE}")
    @ui.page("/experiments/{name}", title=f"Experiments · {TITLE}")
    def list_of_experiments(name: str = "") -> None:
        known = any(one.name == name for one in all_experiments())
        with frame("/experiments", None, history):
            trials.show(trial, name if known else "")


def unknown() -> str:
    """For an address that somebody typed."""
    return "There is no such model; there are " + ", ".join(f'<a href="/model/{name}">{name}</a>' for name in MODELS)


def frame(path: str, loads: Loads | None, history: History, model: str = "") -> ui.element:
    """Header, navigation, the drawer of controls where there are some, and links; the content goes into the result."""
    ui.colors(primary=PRIMARY)
    controls = tryit.drawer(loads, history, model or "nginx") if loads is not None else None
    with ui.header(elevated=False).classes("lab-header"):
        navigation(path, controls)
    ui.html('<p id="lost" class="lost" role="alert"></p>', sanitize=False)
    content = ui.element("div").classes("content").props("id=content tabindex=-1")
    with ui.element("footer").classes("lab-footer"):
        links.show(model)
    ui.html('<div id="announce" class="sr-only" role="status" aria-live="polite"></div>', sanitize=False)
    return content


def navigation(path: str, controls: ui.right_drawer | None) -> None:
    """Title, pages, and the buttons at the right."""
    ui.html('<a class="skip" href="#content">To the content</a>', sanitize=False)
    entries = "".join(
        f'<a href="{target}"{" aria-current=page" if target == path else ""}>{name}</a>'
        for target, name in PAGES.items()
    )
    ui.html(f'<h1><a href="/">{TITLE}</a></h1>', sanitize=False).classes("lab-title")
    ui.html(f'<nav aria-label="Pages">{entries}</nav>', sanitize=False)
    ui.space()
    if controls is not None:
        opener(controls)
    ui.button("◐", color=None).on("click", js_handler="() => lab.theme()").props(
        'flat round aria-label="Dark or light" title="Dark or light"'
    ).classes("theme")


def opener(controls: ui.right_drawer) -> None:
    """The button that opens the drawer of controls, and closes it. The focus goes into it, and comes back."""
    button = ui.button("Try it", on_click=controls.toggle).props("unelevated no-caps color=primary").classes("try")
    button.props(f"aria-controls={controls.html_id} aria-expanded=false")
    controls.on_value_change(lambda event: button.props(f"aria-expanded={str(event.value).lower()}"))
    for event, act in (("show", "enter"), ("hide", "leave")):
        controls.on(event, js_handler=f"() => lab.{act}('{controls.html_id}', '{button.html_id}')")
