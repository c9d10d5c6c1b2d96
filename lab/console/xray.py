"""X-ray: a card a model, with its drawing, where its requests' time goes, and what to do if it does not answer."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from lab.console import anatomy
from lab.top.readings import STAGES
from services.options import MODELS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from services.options import Model

STAGE_WORDS = {"accept_wait": "waits to be accepted", "kernel_wait": "waits to be read",
               "dispatch_wait": "waits for a worker", "service": "is worked on",
               "return_wait": "waits for the writer", "write": "is written"}  # fmt: skip
AT_REST = ("0", "1", "2", "3")
"""The workers of a drawing before its model has ever answered."""


def cards(models: Iterable[str]) -> str:
    """The cards of these models, at rest."""
    return "".join(card(MODELS[model]) for model in models)


def card(model: Model) -> str:
    """One card."""
    name = escape(model.name)
    return (
        f'<section class="model waiting" data-model="{name}" aria-labelledby="{name}-title">'
        f'<header><h2 id="{name}-title"><a href="/model/{name}" title="Only {name}, large">{name}</a></h2>'
        f'<p class="term">{escape(model.term)}</p><p class="words" data-words>…</p>'
        '<p class="trouble" data-trouble></p></header>'
        f'<div class="drawing" role="img" aria-label="{escape(in_words(model))}" '
        f'aria-describedby="{name}-summary" data-drawing-of="{name}">'
        f"{anatomy.draw(model.name, workers_at_rest(model))}</div>"
        f'<p class="down-note" data-problem></p>{stage_bar()}'
        f'<p class="sr-only" id="{name}-summary" data-summary></p></section>'
    )


def workers_at_rest(model: Model) -> tuple[str, ...]:
    """Whom to draw before the model has told."""
    return ("main",) if model.executes == "main" else AT_REST


def in_words(model: Model) -> str:
    """The drawing for those who do not see it."""
    return (
        f"How {model.name} serves connections: listens: {model.listens}; accepts: {model.accepts}; "
        f"reads: {model.reads}; executes: {model.executes}; writes: {model.writes}"
    )


def stage_bar() -> str:
    """Show the stages of a request's time: a bar that is shared out, and the shares in words."""
    shares = "".join(f'<i class="{stage}" data-share="{stage}"></i>' for stage in STAGES)
    words = "".join(
        f'<li data-stage="{stage}" hidden><i class="{stage}"></i>{STAGE_WORDS[stage]} <b></b></li>' for stage in STAGES
    )
    return (
        "<div class='stages'><p class='stages-title'>Where a request's time goes <b data-total>–</b></p>"
        f'<div class="bar" aria-hidden="true">{shares}</div><ul>{words}</ul></div>'
    )
