"""Figures in the README are never typed: what was measured and stored is put between two marks that bear its name.

A test for each name holds the README to what is stored.
"""

from __future__ import annotations

import re

from lab.settings import CHECKOUT, require_checkout

README = CHECKOUT / "README.md"


def block(name: str) -> str:
    """The lines between the marks of this name. Raises ValueError where there are none."""
    found = _between(name).search(_text())
    if found is None:
        raise ValueError(f"{README} has no <!-- {name}:begin --> and <!-- {name}:end -->")
    return found[0]


def put(name: str, lines: str) -> None:
    """Put the lines between the marks of this name."""
    README.write_text(_between(name).sub(lambda _: lines, _text()), encoding="utf-8")


def _between(name: str) -> re.Pattern[str]:
    return re.compile(rf"(?<=<!-- {name}:begin -->\n).*?(?=<!-- {name}:end -->)", re.DOTALL)


def _text() -> str:
    require_checkout()
    return README.read_text(encoding="utf-8")
