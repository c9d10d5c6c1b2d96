"""Compare: the key series of the five models on one time axis, and how fair and how even each is now."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

from lab.console.history import KEPT_SECONDS, WINDOW_SECONDS
from services.options import MODELS

SPANS = {"1 min": 60, "5 min": 300, "15 min": KEPT_SECONDS}
"""Spans that the time axis can show."""


@dataclass(frozen=True, slots=True)
class Chart:
    """One chart: which series it shows, in which unit, and what to look for."""

    series: str
    title: str
    unit: str
    look_for: str


CHARTS = (
    Chart("requests", "Requests a second", "/s", "who does more under the same load"),
    Chart("accept_queue", "Accept queue", "", "connections that wait to be accepted: the fullest queue of each model"),
    Chart("drops", "Dropped connections a second", "/s", "anything above 0 is a client that waits a second or longer"),
    Chart("p50", "p50 of its slowest stage", "s", "half of the requests take at least so long"),
    Chart("p99", "p99 of its slowest stage", "s", "one request in a hundred takes at least so long"),
    Chart("imbalance", "Imbalance", "×", "the busiest worker over the mean of all: 1 is even"),
)
FIGURES = {
    "requests": ("requests/s", "the last seconds"),
    "jain": ("fairness", "Jain's index over the workers: 1 where all do as much, 1/n where one does all"),
    "imbalance": ("imbalance", "the busiest worker over the mean of all"),
    "accept_queue": ("queue", "connections that wait to be accepted, in the fullest accept queue"),
    "p50": ("p50", "the largest p50 of a stage: half of the requests take at least so long"),
    "p99": ("p99", "the largest p99 of a stage: one request in a hundred takes at least so long"),
    "tail": ("tail", "p99 over p50"),
    "drops": ("drops/s", "connections that found the queue full"),
}


OF_STAGES = (
    "p50 and p99 are of the slowest stage that each request meets. "
    "That a connection is accepted and handed off counts where it carries one request."
)


def content() -> str:
    """The page's content; `static/script.js` draws the lines."""
    charts = "".join(chart(one) for one in CHARTS)
    return f'<div class="compare">{bar()}{table()}<div class="charts">{charts}</div></div>'


def bar() -> str:
    """Show what each line is, and choose the length of the time axis."""
    legend = "".join(
        f'<button type="button" class="key" data-key="{name}" aria-pressed="true">{sample(name)}{name}</button>'
        for name in MODELS
    )
    spans = "".join(
        f'<button type="button" data-span="{seconds}" aria-pressed="{str(seconds == 60).lower()}">{name}</button>'
        for name, seconds in SPANS.items()
    )
    return (
        f'<div class="tools"><div role="group" aria-label="Models shown">{legend}</div>'
        f'<div role="group" aria-label="Time shown">{spans}</div></div>'
    )


def sample(model: str) -> str:
    """A piece of the model's line, as in the charts."""
    return f'<svg class="sample" viewBox="0 0 54 8" aria-hidden="true"><path class="line {model}" d="M0,4H54"/></svg>'


def table() -> str:
    """A row a model, with the figures of the last seconds."""
    heads = "".join(f'<th scope="col" title="{escape(hint)}">{name}</th>' for name, hint in FIGURES.values())
    rows = "".join(
        f'<tr><th scope="row">{sample(model)}{model}</th>'
        + "".join(f'<td data-cell="{model} {series}">–</td>' for series in FIGURES)
        + "</tr>"
        for model in MODELS
    )
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="Figures of each model"><table class="figures">'
        f"<caption>The last {WINDOW_SECONDS:g} seconds</caption>"
        f'<thead><tr><th scope="col">model</th>{heads}</tr></thead><tbody>{rows}</tbody></table></div>'
        f'<p class="hint">{OF_STAGES}</p>'
    )


def chart(one: Chart) -> str:
    """One chart, without its lines yet."""
    return (
        f'<figure class="chart" data-series="{one.series}" data-unit="{one.unit}"><figcaption>{one.title}'
        f"<small>{one.look_for}</small></figcaption>"
        f'<svg role="img" aria-label="{one.title}: {one.look_for}"></svg></figure>'
    )
