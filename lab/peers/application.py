"""An application of one's own, and the servers of production that can serve it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.peers import gunicorn_gthread, uvicorn

if TYPE_CHECKING:
    from pathlib import Path

HOSTS = {kind.NAME: kind for kind in (gunicorn_gthread, uvicorn)}
"""One for WSGI, one for ASGI; whichever does not serve an application responds with 500."""


@dataclass(frozen=True, slots=True)
class Application:
    """An application as `--app` and `--app-dir` name it."""

    spec: str
    folder: Path

    @property
    def options(self) -> list[str]:
        """Return the options of `lab serve`."""
        return ["--app", self.spec, "--app-dir", str(self.folder)]
