"""Experiments: the list, each with its question, a prediction to make before it runs, and what came out."""

from __future__ import annotations

from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Any

from nicegui import run, ui

from lab import settings
from lab.console import experiments
from lab.console.tryit import plain_button
from lab.experiments import all_experiments
from lab.harness.checks import shown
from lab.report.page import INDEX
from lab.report.rendering import markdown

if TYPE_CHECKING:
    from lab.console.experiments import Trial
    from lab.harness.experiment import Experiment
    from lab.measure.summary import Summary

VERDICTS = {"holds": "✓ the claim holds", "fails": "✕ the claim fails", "inconclusive": "? inconclusive"}
MARKS = {True: "✓", False: "✕", None: "?"}
REFRESH_SECONDS = 0.5
ON_HOSTS = "The parts of this place may make no sandbox: run the command on your own machine."


def show(trial: Trial, chosen: str = "") -> None:
    """The whole list; `chosen` is open, and where the reader looks."""
    ui.html("<h2>Experiments</h2>", sanitize=False)
    with ui.element("div").classes("kind-line"):
        ui.label("Say first what you expect; then let the machine answer.")
        ui.link("All reports", f"/results/{INDEX}", new_tab=True)
    rows: list[Row] = []
    for chapter, own in groupby(all_experiments(), key=lambda one: one.chapter):
        ui.label(chapter).classes("chapter").props("role=heading aria-level=3")
        rows += [Row(one, trial, chosen=one.name == chosen) for one in own]
    # One timer for all: each tick is work for the page's server, and for each visitor.
    ui.timer(REFRESH_SECONDS, partial(refresh, rows))
    if chosen:
        ui.timer(0.1, lambda: ui.run_javascript(f"document.getElementById('{chosen}').scrollIntoView()"), once=True)


def refresh(rows: list[Row]) -> None:
    """Show in each how far its run is."""
    for row in rows:
        row.refresh()


class Row:
    """One experiment."""

    def __init__(self, experiment: Experiment, trial: Trial, *, chosen: bool = False) -> None:
        self._experiment, self._trial = experiment, trial
        self._shown: object = None
        with ui.expansion(experiment.question, value=chosen).classes("experiment").props(f"id={experiment.name}"):
            ui.label(experiment.predict_in(quick=True)).classes("predict")
            self._prediction = ui.input("Your prediction").props("outlined dense").classes("full")
            self._prediction.props(f'aria-label="Your prediction for {experiment.name}"')
            with ui.row().classes("items-center"):
                self._start = ui.button("Run", on_click=self._begin).props("unelevated no-caps color=primary")
                self._start.props(f'aria-label="Run {experiment.name}"')
                self._stop = plain_button("Stop", self._end)
                ui.label(experiments.command(experiment.name)).classes("command")
            self._progress = ui.linear_progress(0, show_value=False).props('aria-label="Progress"')
            self._doing = ui.label("").classes("status")
            self._outcome = ui.element("div").classes("outcome").props("aria-live=polite")
        self._prediction.on_value_change(self.refresh)
        self.refresh()

    def _begin(self) -> None:
        try:
            self._trial.start(self._experiment.name)
        except experiments.BusyError as error:
            ui.notify(str(error), type="warning")
        self.refresh()

    async def _end(self) -> None:
        await run.io_bound(self._trial.stop)
        self.refresh()

    def refresh(self) -> None:
        """Show how far its run is, or another's."""
        state = self._trial.state
        own = state.name == self._experiment.name
        running = own and self._trial.runs()
        # A prediction that is made after the answer is none.
        ready = bool((self._prediction.value or "").strip()) and not self._trial.runs()
        self._start.set_enabled(ready and not settings.ON_HOSTS)
        self._stop.set_enabled(running)
        self._progress.set_visibility(running)
        self._doing.set_text(self._words(own=own, running=running))
        if not own:
            return
        self._progress.set_value(state.progress)
        if state.ended and self._shown is not state:
            self._shown = state
            self._show_outcome(state)

    def _words(self, *, own: bool, running: bool) -> str:
        if running:
            return self._trial.state.doing or "starting"
        if not own and self._trial.runs():
            return f"{self._trial.state.name} is running: one at a time, or they would disturb each other"
        if settings.ON_HOSTS:
            return ON_HOSTS
        return "" if self._prediction.value else "Write down what you expect, and the button wakes up."

    def _show_outcome(self, state: experiments.State) -> None:
        self._outcome.clear()
        with self._outcome:
            if state.problem:
                ui.label(state.problem).classes("trouble")
            for document in state.documents:
                show_document(document)
            if state.documents:
                if self._prediction.value:
                    ui.label(f"You said: {self._prediction.value}").classes("predict")
                ui.html(markdown(str(state.documents[-1]["explanation"])), sanitize=False).classes("explanation")
            if address := experiments.latest_report(self._experiment.name):
                ui.link("The whole report", address, new_tab=True)


def show_document(document: dict[str, Any]) -> None:
    """Verdict, checks and figures of one experiment."""
    verdict = str(document["verdict"])
    ui.label(VERDICTS.get(verdict, verdict)).classes(f"verdict {verdict}")
    if advice := document.get("advice"):
        ui.label(str(advice))
    checks = document.get("checks", [])
    if checks:
        rows = [
            [MARKS[one.get("holds")], *(str(one.get(name)) for name in ("claim", "expected", "measured"))]
            for one in checks
        ]
        table(("", "claim", "expected", "measured"), rows, "claims")
    for one in checks:
        if one.get("holds") and (corrects := one.get("corrects")):
            ui.label(f"Often said: “{corrects['often_said']}” Measured: {one['measured']}. {corrects['truth']}")
    arms = document.get("arms", [])
    names = list(dict.fromkeys(name for arm in arms for name in arm.get("metrics", {})))
    if names:
        rows = [[name, *(figure(arm["metrics"].get(name)) for arm in arms)] for name in names]
        table(("median (spread)", *(str(arm["name"]) for arm in arms)), rows, "figures")


def figure(metric: Summary | None) -> str:
    """The median and its spread; a dash where an arm has no such figure."""
    return shown(metric) if metric else "–"


def table(heads: tuple[str, ...], rows: list[list[str]], kind: str) -> None:
    """A table of claims, which wrap, or of figures, which scroll where there are too many."""
    with ui.element("div").classes("scroll").props("tabindex=0"), ui.element("table").classes(kind):
        with ui.element("thead"), ui.element("tr"):
            for head in heads:
                cell("th", head)
        with ui.element("tbody"):
            for row in rows:
                with ui.element("tr"):
                    for text in row:
                        cell("td", text)


def cell(tag: str, text: str) -> None:
    """One cell; its words are somebody else's, so they are never markup."""
    with ui.element(tag):
        ui.label(text)
