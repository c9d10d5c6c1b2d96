"""HTML of all pages: the templates with their filters, and Markdown."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markdown_it import MarkdownIt
from markupsafe import Markup

from lab.harness.checks import number, shown


def markdown(text: str) -> Markup:
    """The text as HTML; HTML in it is shown, not obeyed."""
    return Markup(MarkdownIt("commonmark", {"html": False}).enable("table").render(text))


@cache
def templates() -> Environment:
    """Return the pages' templates, with the filters that they use."""
    made = Environment(
        loader=PackageLoader("lab.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"shown": shown, "number": number, "setting": _setting}
    return made


def _setting(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
