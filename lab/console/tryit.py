"""Try it: put load on a model, or change its options, with a few clicks; each is a command that is shown, too."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from nicegui import run, ui

from lab import settings
from lab.console.loads import MOST_SECONDS, MOST_USERS, PRESETS, Load, LoadError
from lab.stack import control
from lab.top.readings import MAIN
from services.options import MODELS, options_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from lab.console.history import History
    from lab.console.loads import Loads
    from services.options import Option

BESIDES = ("workers", "backlog")
"""Options of every model that change its drawing; the others are left to `lab set`."""
REQUESTS = {"cheap": "cheap ones", "heavy": "every 20th is heavy", "hot": "one hot connection, the others quiet"}
ON_HOSTS_HINT = f"As a line of the models' hosts in your inventory; `{settings.up_at('vms')}` applies it:"


def drawer(loads: Loads, history: History, model: str) -> ui.right_drawer:
    """Load and options, in a drawer that is closed at first."""
    with ui.right_drawer(value=False, fixed=True).props("width=350 breakpoint=800 bordered").classes("try-it") as found:
        found.props('role=group aria-label="Try it"')
        with ui.row().classes("items-center justify-between no-wrap w-full"):
            ui.html("<h2>Try it</h2>", sanitize=False)
            ui.button("✕", on_click=found.hide, color=None).props('flat round dense aria-label="Close"')
        chosen = ui.select(list(MODELS), value=model, label="Model").props("outlined dense").classes("full")
        LoadForm(loads, chosen)
        OptionForm(history, chosen)
    return found


def command_line(text: str) -> ui.label:
    """The same in a terminal."""
    return ui.label(text).classes("command")


class LoadForm:
    """Form of a load, with its progress."""

    def __init__(self, loads: Loads, model: ui.select) -> None:
        self._loads, self._model = loads, model
        self._problem = ""
        """Reason that the last start failed."""
        ui.html("<h3>Load</h3>", sanitize=False)
        with ui.element("div").classes("presets").props('role=group aria-label="Examples of load"'):
            for name, values in PRESETS.items():
                plain_button(name, lambda values=values: self._take(values))
        self._fields: dict[str, Any] = {}
        self._make_fields()
        with ui.row().classes("no-wrap full"):
            self._start = ui.button("Start", on_click=self._begin).props("unelevated no-caps color=primary")
            self._stop = plain_button("Stop", self._end)
        # Apart from each other, so that a screen reader is told of what begins and ends, and not of every second.
        self._progress = ui.linear_progress(0, show_value=False).props("aria-hidden=true")
        self._status = ui.label("").classes("status").props("role=status")
        self._figures = ui.label("").classes("hint").style("white-space: pre-line")
        ui.label("The same in a terminal:").classes("hint")
        self._command = command_line("")
        model.on_value_change(self._choose)
        self._refresh()
        ui.timer(1.0, self._refresh)

    def _make_fields(self) -> None:
        default, fields = Load(), self._fields
        fields["requests"] = ui.select(REQUESTS, value=default.requests, label="Requests")
        fields["keep_alive"] = ui.switch("Many requests a connection (keep-alive)", value=default.keep_alive)
        with ui.element("div").classes("pair"):
            fields["users"] = number("Users", default.users, 1, MOST_USERS)
            fields["rate"] = number("Started a second", default.rate, 1, MOST_USERS)
            fields["seconds"] = number("For (s)", default.seconds, 1, MOST_SECONDS)
            fields["think_ms"] = number("Pause between (ms)", default.think_ms, 0, 10_000)
            fields["block_ms"] = number("Heavy: blocks (ms)", default.block_ms, 0, 10_000)
            fields["cpu_ms"] = number("Heavy: processor (ms)", default.cpu_ms, 0, 10_000)
        for one in fields.values():
            one.on_value_change(self._choose)
        fields["requests"].props("outlined dense").classes("full")

    def _load(self) -> Load:
        default = Load()
        values = {name: one.value for name, one in self._fields.items()}
        # An empty field is None: until it holds something again, the default stands.
        values = {name: type(getattr(default, name))(value) for name, value in values.items() if value is not None}
        return replace(default, model=self._model.value, **values)

    def _take(self, values: dict[str, Any]) -> None:
        for name, value in values.items():
            self._fields[name].set_value(value)

    def _choose(self) -> None:
        """Something else was chosen: what stood in the way of the last start does so no more."""
        self._problem = ""
        self._refresh()

    def _begin(self) -> None:
        self._problem = ""
        try:
            self._loads.start(self._load())
        except LoadError as error:
            self._problem = str(error)
            ui.notify(self._problem, type="negative")
        self._refresh()

    async def _end(self) -> None:
        await run.io_bound(self._loads.stop, self._model.value)
        self._problem = ""
        self._refresh()

    def _refresh(self) -> None:
        load, running = self._load(), self._loads.last(self._model.value)
        self._command.set_text(load.command())
        for name in ("block_ms", "cpu_ms"):
            self._fields[name].set_enabled(load.requests != "cheap")
        self._fields["keep_alive"].set_enabled(load.requests != "hot")
        under_load = self._loads.runs(load.model)
        self._start.set_enabled(not under_load)
        self._stop.set_enabled(under_load)
        self._progress.set_visibility(under_load)
        self._progress.set_value(running.progress() if running else 0)
        self._status.set_text(self._problem or (running.status() if running else ""))
        self._figures.set_text("\n".join(running.figures()) if running else "")


class OptionForm:
    """The options of the chosen model that can be changed while it runs."""

    def __init__(self, history: History, model: ui.select) -> None:
        self._history, self._model = history, model
        self._fields: dict[str, Any] = {}
        self._at_first: dict[str, Any] = {}
        ui.html("<h3>The model's options</h3>", sanitize=False)
        self._form = ui.element("div").classes("pair")
        self._apply = ui.button("Apply", on_click=self._change).props("unelevated no-caps color=primary")
        # On hosts Ansible has the last word, and the sockets of other hosts are out of reach.
        self._apply.set_visibility(not settings.ON_HOSTS)
        self._status = ui.label("").classes("status").props("role=status")
        ui.label(ON_HOSTS_HINT if settings.ON_HOSTS else "The same in a terminal:").classes("hint")
        self._command = command_line("")
        model.on_value_change(self._make_fields)
        self._make_fields()

    def _in_force(self) -> dict[str, Any]:
        found = (reading.options for reading in self._history.readings if reading.model == self._model.value)
        return next(found, {})

    def _make_fields(self) -> None:
        self._form.clear()
        in_force = self._in_force()
        with self._form:
            self._fields = {
                option.name: option_field(option, in_force.get(option.key, option.default))
                for option in offered(self._model.value)
            }
        self._at_first = {name: one.value for name, one in self._fields.items()}
        for one in self._fields.values():
            one.on_value_change(self._refresh)
        self._status.set_text("")
        self._refresh()

    def _changes(self) -> list[str]:
        in_force = self._in_force()
        was = {name: spelled(in_force.get(name.replace("-", "_"), first)) for name, first in self._at_first.items()}
        now = {name: spelled(one.value) for name, one in self._fields.items() if one.value is not None}
        return [f"{name}={text}" for name, text in now.items() if text != was[name]]

    def _refresh(self) -> None:
        changes = self._changes()
        example = changes or [f"{name}={spelled(one.value)}" for name, one in list(self._fields.items())[:1]]
        words = in_the_inventory if settings.ON_HOSTS else in_a_terminal
        self._command.set_text(words(self._model.value, example))
        self._apply.set_enabled(bool(changes))

    async def _change(self) -> None:
        model, changes = self._model.value, self._changes()
        self._apply.set_enabled(False)
        self._status.set_text("…")
        problem = await run.io_bound(change, model, changes)
        self._status.set_text(problem or f"{model} now runs with {' '.join(changes)}")
        self._apply.set_enabled(bool(problem))


def offered(model: str) -> list[Option]:
    """The options of the model that are worth a field: they teach something, or change the drawing."""
    # Where main executes, `workers` says nothing: the model has an option of its own for several.
    besides = [name for name in BESIDES if name != "workers" or MODELS[model].executes != MAIN]
    return [option for option in options_of(model) if option.live and (option.teaches or option.name in besides)]


def change(model: str, changes: list[str]) -> str:
    """Change the model's options; why not, or nothing."""
    try:
        control.change(model, changes)
    except control.ControlError as error:
        return str(error)
    return ""


def in_a_terminal(model: str, changes: list[str]) -> str:
    """Return the command that makes the same changes."""
    return shlex.join(["lab", "set", model, *changes])


def in_the_inventory(model: str, changes: list[str]) -> str:
    """The line of an inventory that makes the same changes. JSON is YAML, without its surprises: `on` stays a word."""
    options = dict(change.split("=", 1) for change in changes)
    return "lab_model_options: " + json.dumps({model: {name: typed(text) for name, text in options.items()}})


def typed(text: str) -> Any:
    """A number or a truth where the text is one."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def option_field(option: Option, value: Any) -> Any:
    """A field of the option's type, with what it teaches below it."""
    # Of the group, since Quasar puts what is said of a select beside what gets the focus.
    with ui.element("div").props(f"role=group aria-label={option.name}") as group:
        made = bare_field(option, value)
        words = ui.label(option.teaches or option.help).classes("hint")
    group.props(f"aria-describedby={words.html_id}")
    return made


def bare_field(option: Option, value: Any) -> Any:
    """A field of the option's type."""
    if option.choices:
        return ui.select(list(option.choices), value=value, label=option.name).props("outlined dense")
    if isinstance(option.default, bool):
        return ui.switch(option.name, value=bool(value))
    return number(option.name, value, option.minimum, option.maximum)


def plain_button(text: str, on_click: Callable[..., Any]) -> ui.button:
    """A button that is not the main one; its colour is the text's."""
    return ui.button(text, on_click=on_click, color=None).props("outline no-caps").classes("plain")


def number(label: str, value: float, least: float, most: float | None) -> ui.number:
    """A field for a number."""
    return ui.number(label, value=value, min=least, max=most).props("outlined dense")


def spelled(value: Any) -> str:
    """As `lab set` takes it: whole numbers without a point."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, (int, float)) else str(value)
