"""Parts of an experiment: a question, arms that differ in one thing, and checks with a source.

Each file of lab/experiments declares one `EXPERIMENT`; nothing else has to know of it. What a trial does is a
function of that file; everything around it (sandbox, repetition, interleaving, verdict, report) is the engine's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

from lab.harness.observation import taken_by_others
from lab.measure.summary import Summary, summarise

if TYPE_CHECKING:
    from lab.harness.observation import Arm, Observation
    from lab.harness.trial import Trial

CHAPTERS = ("models", "connections", "reading and sending", "process and thread", "idempotency")


@dataclass(frozen=True, slots=True)
class ArmResult:
    """All trials of one arm."""

    arm: Arm
    observations: list[Observation]
    """One of each repetition."""
    superseded: list[Observation] = field(default_factory=list)
    """Of repetitions that were made again, since others had the processors: the trials that they had more of."""

    def add(self, repetition: int, observation: Observation) -> None:
        """Keep a trial. Where its repetition has one already, the one that others hindered less stands for it."""
        if repetition == len(self.observations):
            self.observations.append(observation)
            return
        less, more = sorted((self.observations[repetition], observation), key=taken_by_others)
        self.observations[repetition] = less
        self.superseded.append(more)

    def every_trial(self) -> ArmResult:
        """The same with all trials, in no order: what counts are judged by, whoever had the processors."""
        return ArmResult(self.arm, [*self.observations, *self.superseded])

    def summary(self, metric: str) -> Summary:
        """Median and spread of a metric over the trials. Raises KeyError for one that was not measured."""
        found = [observation.metrics[metric] for observation in self.observations if metric in observation.metrics]
        if not found:
            raise KeyError(f"arm {self.arm.name!r} did not measure {metric!r}")
        return summarise([quantity.value for quantity in found], found[0].unit)

    def median(self, metric: str) -> float:
        """The median of a metric."""
        return self.summary(metric)["median"]

    def values(self, metric: str) -> list[float]:
        """A metric of each trial, in the order they were made."""
        return [observation.metrics[metric].value for observation in self.observations]

    def summaries(self) -> dict[str, Summary]:
        """Every metric."""
        names = dict.fromkeys(name for observation in self.observations for name in observation.metrics)
        return {name: self.summary(name) for name in names}


Results = Mapping[str, ArmResult]
"""By the arm's name."""


class Finding(NamedTuple):
    """Result of a check. `holds` None: these figures cannot tell."""

    measured: str
    holds: bool | None


@dataclass(frozen=True, slots=True)
class Correction:
    """A thing that is often said and is not so, or is only half of it."""

    statement: str
    """The number of the statement of the theory that says it (lab/experiments/theory.py); empty: others say it."""
    often_said: str
    truth: str


@dataclass(frozen=True, slots=True)
class Check:
    """A claim, where it comes from, and how the figures decide it."""

    name: str
    """Short and without spaces: what a control refers to."""
    claim: str
    source: str
    """Source of the claim or the criterion: a kernel file, a publication, a manual."""
    expected: str
    judge: Callable[[Results], Finding]
    timed: bool = field(kw_only=True)
    """True if other programs can spoil it by taking the processors: true of durations, rates and shares of processor
    time; false of counts and their shares, which are judged however busy the machine is.
    """
    cores: int = 1
    """Cores that this claim needs, where it needs more than the others."""
    shows: tuple[str, ...] = ()
    """The numbers of the statements of the theory that it proves, or proves a part of."""
    corrects: Correction | None = None
    """A thing often said that its figures contradict."""


@dataclass(frozen=True, slots=True)
class Control:
    """The same experiment with the cause taken away: then the checks named in `fails` must not hold.

    Shows that these checks can fail at all. `arms` replace those of the same name.
    """

    name: str
    what: str
    arms: tuple[Arm, ...]
    fails: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Experiment:
    """A question to the kernel or to a model, and how it is answered."""

    name: str
    chapter: str
    question: str
    predict: str
    """Prediction that a student should write down before running it."""
    arms: tuple[Arm, ...]
    trial: Callable[[Trial], Observation]
    checks: tuple[Check, ...]
    explanation: str
    """Explanation of what comes out; Markdown, a few short paragraphs."""
    controls: tuple[Control, ...] = ()
    repetitions: int = 5
    quick_repetitions: int = 1
    cores: int = 1
    """Cores that the claims need. With fewer it is inconclusive, whatever the figures."""
    quick_predict: str = ""
    """In place of `predict` where the quick form has other figures."""
    quick_explanation: str = ""
    """In place of `explanation` where the quick form has other figures."""
    programs: tuple[str, ...] = ()
    """Packages whose program of the same name it needs, beside those that every sandbox needs."""

    def __post_init__(self) -> None:
        """Hold what a slip in a file would break: raises ValueError."""
        checks = {check.name for check in self.checks}
        arms = {arm.name for arm in self.arms}
        for problem, found in (
            (f"no chapter is called {self.chapter!r}", self.chapter not in CHAPTERS),
            ("two arms or two checks have one name", len(arms) < len(self.arms) or len(checks) < len(self.checks)),
            ("a control names a check that there is not", any(set(c.fails) - checks for c in self.controls)),
            (
                "a control replaces an arm that there is not",
                any({a.name for a in c.arms} - arms for c in self.controls),
            ),
            ("a check that no control can make fail", bool(checks - {name for c in self.controls for name in c.fails})),
        ):
            if found:
                raise ValueError(f"experiment {self.name}: {problem}")

    def arms_in(self, *, quick: bool) -> tuple[Arm, ...]:
        """The arms of the quick form, or of the full one."""
        return tuple(arm for arm in self.arms if arm.quick or not quick)

    def predict_in(self, *, quick: bool) -> str:
        """`predict`, with the figures of the form."""
        return (quick and self.quick_predict) or self.predict

    def explanation_in(self, *, quick: bool) -> str:
        """`explanation`, with the figures of the form."""
        return (quick and self.quick_explanation) or self.explanation

    def without_cause(self, control: Control) -> Experiment:
        """The experiment with the control's arms in place of its own."""
        instead = {arm.name: arm for arm in control.arms}
        return replace(self, arms=tuple(replace(instead.get(arm.name, arm), quick=arm.quick) for arm in self.arms))
