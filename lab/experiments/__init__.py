"""One file a question. A file with an `EXPERIMENT` in it is an experiment: nothing else lists them."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lab.harness.experiment import Control, Experiment


class UnknownExperimentError(Exception):
    """No such experiment, or no such control; the text says which there are."""


@cache
def all_experiments() -> tuple[Experiment, ...]:
    """Every experiment, by chapter in the order of the theory, then as the files are called."""
    from lab.harness.experiment import CHAPTERS

    names = [module.name for module in iter_modules(__path__) if module.name != "__main__"]
    modules = [import_module(f"{__name__}.{name}") for name in names]
    found: list[Experiment] = [module.EXPERIMENT for module in modules if hasattr(module, "EXPERIMENT")]
    return tuple(sorted(found, key=lambda experiment: (CHAPTERS.index(experiment.chapter), experiment.name)))


def named(name: str) -> Experiment:
    """The experiment of that name. Raises UnknownExperimentError."""
    for experiment in all_experiments():
        if experiment.name == name:
            return experiment
    raise UnknownExperimentError(f"no experiment is called {name!r}; `lab list` shows them")


def control_of(experiment: Experiment, name: str) -> Control:
    """The control of that name. Raises UnknownExperimentError."""
    for control in experiment.controls:
        if control.name == name:
            return control
    names = ", ".join(control.name for control in experiment.controls)
    raise UnknownExperimentError(f"{experiment.name} has no control {name!r}; there are {names}")
