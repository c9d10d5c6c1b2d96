"""The processors that containers are given: lists such as `0` or `1-3,5`, each in a variable."""

from __future__ import annotations

import re

from lab import settings
from lab.settings import SettingError
from lab.stack import engine

VARIABLES = ("LAB_MODELS_CPUSET", "LAB_LOAD_CPUSET")
RANGE = re.compile(r"(\d+)(?:-(\d+))?")


def check() -> None:
    """Raise SettingError for a list that is none, or names a processor that the engine's machine lacks.

    The engine would say so, too, but for each container, and when it has begun.
    """
    given = {name: text for name in VARIABLES if (text := settings.variable(name))}
    wanted = {name: processors(name, text) for name, text in given.items()}
    if not wanted:
        return
    code, said = engine.docker("info", "--format", "{{.NCPU}}")
    if code or not said.isdecimal():
        return  # what the matter is with the engine, others say
    for name, numbers in wanted.items():
        if lacking := sorted(number for number in numbers if number >= int(said)):
            raise SettingError(
                f"{name}={given[name]!r}: there is no processor {lacking[0]}; give some of 0 to {int(said) - 1}"
            )


def processors(name: str, text: str) -> set[int]:
    """Return the numbers in a list. Raises SettingError."""
    found: set[int] = set()
    for part in text.split(","):
        bounds = RANGE.fullmatch(part.strip())
        first, last = (int(bounds[1]), int(bounds[2] or bounds[1])) if bounds else (1, 0)
        if not first <= last < 1 << 16:
            raise SettingError(f"{name}={text!r}: give processors such as 0 or 1-3,5")
        found.update(range(first, last + 1))
    return found
