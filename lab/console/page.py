"""The page itself, with NiceGUI: a Python page that a Python textbook can show."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from nicegui import app, ui

from lab import settings
from lab.console import anatomy
from lab.console.history import History
from lab.top import stack_sources
from services.options import MODELS

if TYPE_CHECKING:
    from lab.top.readings import Reading

HERE = Path(__file__).parent
STAGE_NAMES = {"accept_wait": "waits to be accepted", "kernel_wait": "waits to be read",
               "dispatch_wait": "waits for a worker", "service": "is worked on",
               "return_wait": "waits for the writer", "write": "is written"}  # fmt: skip


def serve(host: str = settings.HOST, port: int | None = None) -> None:
    """Serve the page until SIGINT or SIGTERM."""
    history = History(stack_sources())
    app.on_startup(history.start)
    app.on_shutdown(history.close)

    @ui.page("/", title="The lab")
    def xray() -> None:
        XRay(history)

    ui.run(
        host=host, port=port or settings.CONSOLE.number, title="The lab", reload=False, show=False, dark=None,
        show_welcome_message=False,
    )  # fmt: skip


class XRay:
    """One visitor's page: a drawing a model, and what it shows now."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._drawn: dict[str, list[str]] = {}
        ui.add_css(HERE / "style.css")
        ui.add_head_html(f"<script>{(HERE / 'script.js').read_text(encoding='utf-8')}</script>")
        with ui.header(elevated=False).classes("items-center justify-between"):
            ui.label("The lab: five ways to accept a connection").classes("text-h6")
        self._cards: dict[str, ui.card] = {}
        self._drawings: dict[str, ui.html] = {}
        self._words: dict[str, ui.label] = {}
        for model in MODELS:
            with ui.card().classes("w-full") as card:
                self._cards[model] = card
                ui.label(model).classes("text-h5")
                self._drawings[model] = ui.html("", sanitize=False).classes("w-full")
                self._words[model] = ui.label("…").props("role=status")
        ui.timer(history.interval_seconds, self._refresh)

    def _refresh(self) -> None:
        updates: dict[str, list[object]] = {}
        for reading in self._history.readings:
            updates |= self._refresh_model(reading)
        if updates:
            ui.run_javascript(f"lab.show({app_json(updates)})")

    def _refresh_model(self, reading: Reading) -> dict[str, list[object]]:
        card = self._cards[reading.model]
        card.classes(remove="down") if reading.up else card.classes(add="down")
        self._words[reading.model].set_text(in_words(reading))
        if not reading.up:
            return {}
        workers = anatomy.workers_of(reading)
        if self._drawn.get(reading.model) != workers:
            self._drawn[reading.model] = workers
            self._drawings[reading.model].set_content(anatomy.draw(reading.model, workers))
        return anatomy.as_updates(anatomy.figures(reading).items())


def app_json(updates: dict[str, list[object]]) -> str:
    """As a JavaScript value."""
    import json

    return json.dumps(updates)


def in_words(reading: Reading) -> str:
    """One line below the drawing: rates, drops, and where a request's time goes."""
    if not reading.up:
        return f"does not answer: {reading.problem}"
    rate = "–" if reading.requests_per_second is None else f"{reading.requests_per_second:,.0f}"
    line = f"{rate} requests/s · {reading.drops:,} connections dropped so far"
    stages = {stage: seconds for stage, seconds in reading.seconds_per_request.items() if seconds > 0}
    if stages:
        line += " · a request " + ", ".join(f"{STAGE_NAMES[stage]} {1e6 * s:,.0f} µs" for stage, s in stages.items())
    return line
