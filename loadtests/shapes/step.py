"""A staircase: a fifth of the users, then two fifths, up to all of them."""

from __future__ import annotations

from typing import ClassVar

from locust import LoadTestShape

STEPS = 5
DEFAULT_SECONDS = 60.0


class StepShape(LoadTestShape):
    """Climbs to `--users` in five steps of equal length within `--run-time`, then ends."""

    use_common_options: ClassVar[bool] = True

    def tick(self) -> tuple[int, float] | None:
        """Locust asks once a second: (users, users started a second), or None at the end."""
        options = self.runner.environment.parsed_options
        seconds = float(options.run_time or DEFAULT_SECONDS)
        step = int(self.get_run_time() / seconds * STEPS) + 1
        if step > STEPS:
            return None
        users = max(1, round((options.num_users or 1) * step / STEPS))
        return users, options.spawn_rate or users
