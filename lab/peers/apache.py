"""Apache with a configuration of our own, and any of its three ways to have workers (MPM).

    prefork  a process a connection: children that block in `accept`, each with one connection
    worker   a thread a connection: a listener thread a child hands it over
    event    idle connections go back to the listener thread, which waits for them by epoll

Who owns a connection: the child that has it among its descriptors. Threads of one child cannot be told apart so.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lab.peers.process import Cpus, Peer, Plan, running, version_of
from lab.peers.routes import LONG_BYTES
from lab.peers.unprivileged import as_somebody
from lab.settings import HOST

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

NAME = "apache"
HOW_TO_GET = "apt-get install apache2"
PROGRAM = "/usr/sbin/apache2"
MODULES = Path("/usr/lib/apache2/modules")

CONFIGURATION = """
ServerRoot "{folder}"
PidFile "{folder}/pid"
DefaultRuntimeDir "{folder}"
ErrorLog "{folder}/error.log"
ServerName lab
LoadModule mpm_{mpm}_module "{modules}/mod_mpm_{mpm}.so"
LoadModule authz_core_module "{modules}/mod_authz_core.so"
LoadModule dir_module "{modules}/mod_dir.so"
Listen {host}:{port}
ListenBacklog {backlog}
# Without it the kernel would hold back connections on which nothing has been sent (TCP_DEFER_ACCEPT).
AcceptFilter http none
DocumentRoot "{folder}/www"
<Directory "{folder}/www">
  Require all granted
</Directory>
DirectoryIndex index.html
KeepAlive On
KeepAliveTimeout 75
MaxKeepAliveRequests 0
EnableSendfile Off
{workers}
"""
PROCESSES = "StartServers {n}\nMinSpareServers {n}\nMaxSpareServers {n}\nServerLimit {n}\nMaxRequestWorkers {n}"
THREADS = (
    "ServerLimit 1\nStartServers 1\nThreadLimit {n}\nThreadsPerChild {n}\nMinSpareThreads 1\nMaxSpareThreads {n}\n"
    "MaxRequestWorkers {n}"
)
WORKERS = {"prefork": PROCESSES, "worker": THREADS, "event": THREADS + "\nAsyncRequestWorkerFactor 20"}


def available() -> str | None:
    """Its version; None when it is not installed."""
    version = version_of(PROGRAM, "-v")
    return version.partition("/")[2].split()[0] if version else None


def start(
    port: int = 0, workers: int = 3, cpus: Cpus = None, *, mpm: str = "prefork", backlog: int = 511
) -> AbstractContextManager[Peer]:
    """A running Apache with so many processes, or threads of one child."""
    return running(Plan(NAME, lambda folder, free: _command(folder, free, mpm, workers, backlog)), port, cpus)


def _command(folder: Path, port: int, mpm: str, workers: int, backlog: int) -> list[str]:
    text = CONFIGURATION.format(
        folder=folder,
        modules=MODULES,
        mpm=mpm,
        host=HOST,
        port=port,
        backlog=backlog,
        workers=WORKERS[mpm].format(n=workers),
    )
    (folder / "www").mkdir()
    (folder / "www" / "index.html").write_text("hello from Apache\n", encoding="utf-8")
    with (folder / "www" / "big").open("wb") as big:
        big.truncate(LONG_BYTES)
    (folder / "apache.conf").write_text(text, encoding="utf-8")
    return as_somebody(PROGRAM, "-f", str(folder / "apache.conf"), "-D", "FOREGROUND")
