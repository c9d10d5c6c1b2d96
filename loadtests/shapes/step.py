"""A staircase: a fifth of the users, then two fifths, up to all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from locust import LoadTestShape

from loadtests.options import options_of

if TYPE_CHECKING:
    from locust.runners import Runner

STEPS = 5
DEFAULT_SECONDS = 60.0


class StepShape(LoadTestShape):
    """Climbs to `--users` in five steps of equal length within `--run-time`, then ends."""

    use_common_options: ClassVar[bool] = True

    runner: Runner

    def tick(self) -> tuple[int, float] | None:
        """Locust asks once a second: (users, users started a second), or None at the end."""
        options = options_of(self.runner.environment)
        seconds = float(options.run_time or DEFAULT_SECONDS)
        step = int(self.get_run_time() / seconds * STEPS) + 1
        if step > STEPS:
            return None
        users = max(1, round((options.num_users or 1) * step / STEPS))
        return users, options.spawn_rate or users
