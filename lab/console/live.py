"""Latest readings for browsers, which ask a few times a second: what to set on the drawings, as JSON.

It is made once for each sample, however many look.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lab import settings
from lab.console import anatomy, looks
from lab.console.history import SERIES
from services.options import MODELS

if TYPE_CHECKING:
    from lab.console.history import History
    from lab.top.readings import Reading


@dataclass(slots=True)
class Live:
    """The latest readings of a history, as JSON."""

    history: History
    _latest: tuple[int, str] = (-1, "{}")
    """A number and what belongs to it; one attribute, since several threads ask."""

    def text(self) -> str:
        """`{"number": …, "age": seconds, "models": {model: …}}`."""
        number, readings = self.history.number, self.history.readings
        latest = self._latest
        if number != latest[0]:
            lately = {reading.model: reading for reading in self.history.lately}
            models = {reading.model: document(reading, lately.get(reading.model, reading)) for reading in readings}
            latest = self._latest = number, json.dumps(models)
        return f'{{"number": {latest[0]}, "age": {self.history.age_seconds():.1f}, "models": {latest[1]}}}'

    def series(self, since: float) -> str:
        """The moments after that time: `{"names": […], "age": …, "moments": [[time, {model: [figure, …]}], …]}`."""
        moments = [[round(moment.at, 2), moment.figures] for moment in self.history.since(since)]
        return json.dumps({"names": list(SERIES), "age": round(self.history.age_seconds(), 1), "moments": moments})


def document(reading: Reading, lately: Reading) -> dict[str, Any]:
    """Return the look of one model now, and the stages of its requests in the last seconds."""
    if not reading.up:
        return {"up": False, "problem": reading.problem, "remedy": remedy(reading.model)}
    parts = looks.figures(reading).items()
    return {
        "up": True,
        "drawing": drawing_key(reading),
        "looks": {name: [look.level, look.state, look.texts] for name, look in parts},
        "flows": {name: speed for name, speed in looks.flows(reading).items() if speed},
        "stages": {stage: seconds for stage, seconds in lately.seconds_per_request.items() if seconds > 0},
        "words": in_words(reading),
        "trouble": trouble(reading),
        "summary": summary(reading),
    }


def drawing_key(reading: Reading) -> str:
    """Return what the drawing depends on: a browser that has another asks for it anew."""
    workers = anatomy.workers_of(reading)
    return f"{len(workers)} {anatomy.shape_of(reading.model, workers, reading.options)}"


def trouble(reading: Reading) -> str:
    """Return the trouble in words, which a screen reader says once when it begins; empty where there is none."""
    if any(queue.full for queue in reading.queues) or reading.drops_per_second:
        return "its accept queue overflows: new connections are dropped"
    stalled = [worker.worker for worker in reading.workers if worker.state == "stalled"]
    if stalled and len(stalled) == len(anatomy.workers_of(reading)):
        return "all that serve are stalled"
    return ""


def in_words(reading: Reading) -> str:
    """One line below the name: rates, and the options in force."""
    rate = "–" if reading.requests_per_second is None else f"{reading.requests_per_second:,.0f}"
    return f"{rate} requests/s · {options_in_words(reading)}"


def summary(reading: Reading) -> str:
    """Return in words what the drawing shows, for those who do not see it."""
    fullest, many = reading.fullest_queue, len(reading.queues)
    waiting = sum(worker.queue_depth for worker in reading.workers)
    said = [
        in_words(reading),
        trouble(reading),
        f"{reading.connections:,} connections open",
        f"SYN queue {reading.syn_queue_length}",
        f"{f'fullest of {many} accept queues' if many > 1 else 'accept queue'} {fullest.length} of {fullest.limit}",
        f"{reading.drops:,} dropped, {reading.drops_per_second or 0:,.0f} a second" if reading.drops else "",
        f"{waiting} handed off and waiting" if waiting else "",
        states_in_words(reading),
    ]
    return ". ".join(part for part in said if part)


def states_in_words(reading: Reading) -> str:
    """Count the workers that serve by state, in the order of the first of each."""
    serving = set(anatomy.workers_of(reading))
    states = Counter(worker.state or "unknown" for worker in reading.workers if worker.worker in serving)
    return "workers: " + ", ".join(f"{count} {state}" for state, count in states.items())


def options_in_words(reading: Reading) -> str:
    """Return the number and kind of the workers, and the model's own options in force."""
    workers, kind = len(anatomy.workers_of(reading)), reading.options.get("worker_kind", "")
    who = f"{workers} {kind} worker{'s' * (workers > 1)}".replace("  ", " ")
    own = [option.key for option in MODELS[reading.model].options if option.key in reading.options]
    return " · ".join([who, *(f"{name.replace('_', '-')} {reading.options[name]}" for name in own)])


def remedy(model: str) -> str:
    """Return the remedy for a model that does not respond."""
    port = settings.ADMIN_PORTS[model]
    if settings.ON_HOSTS:
        return (
            f"`{settings.up_at('vms')}` starts it; `journalctl -u accept-lab-{model}` on its host says why it ended. "
            f"It is expected at {settings.host_of(model)}:{port.number}"
        )
    return f"`lab up` starts it; `lab status` shows how it is. It is expected at port {port.number} ({port.variable})"
