"""Real nginx: `return 200`, no log, connections that never end by their number of requests."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from lab.peers.process import Cpus, Peer, Plan, running, version_of
from lab.settings import HOST

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

NAME = "real-nginx"
HOW_TO_GET = "apt-get install nginx-light"

CONFIGURATION = """
daemon off;
{user}
worker_processes {workers};
worker_rlimit_nofile 16384;
pid pid;
error_log stderr crit;
events {{ worker_connections 12288; {events} }}
http {{
  access_log off;
  keepalive_requests 1000000000;
  client_body_temp_path body;
  proxy_temp_path proxy;
  fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi;
  scgi_temp_path scgi;
  server {{
    listen {host}:{port}{listen};
    {server}
    location / {{ default_type text/plain; return 200 "hello from nginx\\n"; }}
  }}
}}
"""


def available() -> str | None:
    """Its version; None when it is not installed."""
    path = _path()
    version = version_of(path, "-v") if path else None
    return version.rpartition("/")[2] if version else None


def start(
    port: int = 0, workers: int = 1, cpus: Cpus = None, *, listen: str = "", events: str = "", server: str = ""
) -> AbstractContextManager[Peer]:
    """A running nginx. `listen` is added to the directive of that name, the others to their blocks."""
    more = {"listen": listen and f" {listen}", "events": events, "server": server}
    return running(Plan(NAME, lambda folder, free: _command(folder, free, workers, more)), port, cpus)


def _command(folder: Path, port: int, workers: int, more: dict[str, str]) -> list[str]:
    # Started by root its workers would become `nobody`, who may not enter our folder.
    user = "user root;" if os.geteuid() == 0 else ""
    # Its paths are relative to the folder that -p names, so that none with a space in it is in there.
    text = CONFIGURATION.format(user=user, workers=workers, host=HOST, port=port, **more)
    (folder / "nginx.conf").write_text(text, encoding="utf-8")
    return [_path() or "nginx", "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", "stderr"]


def _path() -> str | None:
    # Debian puts it where a user's PATH does not look.
    return shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
