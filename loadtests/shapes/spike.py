"""Calm, a spike, calm again: what a queue has taken in has to be worked off afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from locust import LoadTestShape

from loadtests.options import options_of

if TYPE_CHECKING:
    from locust.runners import Runner

DEFAULT_SECONDS = 60.0
CALM_SHARE = 0.1
SPIKE_BEGINS, SPIKE_ENDS = 0.4, 0.6
"""As shares of the run's length."""


class SpikeShape(LoadTestShape):
    """A tenth of `--users`, all of them at once for a fifth of `--run-time`, a tenth again."""

    use_common_options: ClassVar[bool] = True

    runner: Runner

    def tick(self) -> tuple[int, float] | None:
        """Locust asks once a second: (users, users started a second), or None at the end."""
        options = options_of(self.runner.environment)
        elapsed = self.get_run_time() / float(options.run_time or DEFAULT_SECONDS)
        if elapsed >= 1:
            return None
        peak = options.num_users or 1
        users = peak if SPIKE_BEGINS <= elapsed < SPIKE_ENDS else max(1, round(peak * CALM_SHARE))
        return users, float(peak)
