"""The end of a run as users see it: who waits for a response may have it, and who pauses sends no more."""

from __future__ import annotations

from locust import User
from locust.user.task import LOCUST_STATE_STOPPING, LOCUST_STATE_WAITING


class GentleUser(User):
    """A user that Locust stops between two requests, if the server responds within `--stop-timeout`."""

    abstract = True

    def stop(self, force: bool = False) -> bool:
        """End after the request that is under way. Locust kills whoever needs longer than its patience."""
        if not force and self._state == LOCUST_STATE_WAITING:
            # Locust would throw GreenletExit into the pause. If the pause ends in the same iteration of the loop, that
            # hits the next request instead, which then looks like one without a response.
            self._state = LOCUST_STATE_STOPPING
            return False
        return bool(super().stop(force))

    @property
    def stopping(self) -> bool:
        """Return whether the run is over: a task of many requests ends early then."""
        return bool(self._state == LOCUST_STATE_STOPPING)
