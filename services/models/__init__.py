"""The five models, one short file each: read them side by side."""

from __future__ import annotations

from collections.abc import Callable

from services.models import memcached, nginx, nodejs, ramcloud, reuseport
from services.workers.main import Main

SERVE: dict[str, Callable[[Main], None]] = {
    "nodejs": nodejs.serve,
    "memcached": memcached.serve,
    "ramcloud": ramcloud.serve,
    "nginx": nginx.serve,
    "reuseport": reuseport.serve,
}
