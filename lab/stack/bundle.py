"""The code that a host needs, as an archive: `python -m lab.stack.bundle KIND FILE`, before it is copied there.

There are two kinds, so that an edit of the page restarts no server: `servers` is what every host gets, `page` the lab
itself for the host that has the live page. The same code gives the same bytes, so that nothing is copied or restarted
where nothing has changed.
"""

from __future__ import annotations

import gzip
import io
import re
import sys
import tarfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

from lab import settings
from lab.settings import CHECKOUT
from lab.stack import own_application

CODE = {
    "servers": (
        "services",
        "loadtests",
        "dashboards",
        # What those import, and what brings the units up: an edit elsewhere in lab/ restarts nothing.
        "lab/__init__.py",
        "lab/settings.py",
        "lab/stack/units.py",
    ),
    "page": ("services", "loadtests", "lab"),
}
SUFFIXES = (".py", ".json", ".yml", ".ini", ".css", ".js", ".svg", ".html")
LOAD_GENERATOR = {"locust", "prometheus-client"}
"""Packages that `loadtests` imports."""
TOOLS = "tools"
NOT_FOR_THE_PAGE = {"matplotlib", "grafana-client"}
"""Tools for reports, and for another Grafana: neither is made on a host, and the first is larger than all the rest."""


def contents(kind: str) -> dict[str, bytes]:
    """Every file of the archive, by its path in it."""
    constraints = (CHECKOUT / "constraints.txt").read_bytes()
    brought = own_application.files() if kind == "servers" else {}
    return {**dict(code(kind)), **brought, **requirements(kind), "constraints.txt": constraints}


def code(kind: str) -> Iterator[tuple[str, bytes]]:
    """Yield the files that run, or configure what runs, by their paths in a checkout."""
    for name in CODE[kind]:
        root = CHECKOUT if name == "dashboards" else settings.CODE
        top = root / name
        for path in sorted(top.rglob("*")) if top.is_dir() else [top]:
            shown = path.relative_to(root)
            if path.suffix in SUFFIXES and path.is_file() and not shown.is_relative_to(settings.CARRIED):
                yield str(shown), path.read_bytes()


def requirements(kind: str) -> dict[str, bytes]:
    """Return what pip installs, for each group of hosts, or for the page: what pyproject.toml asks for, and no more."""
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    servers, tools = project["dependencies"], project["optional-dependencies"][TOOLS]
    if kind == "page":
        lists = {"page": [*servers, *(line for line in tools if package(line) not in NOT_FOR_THE_PAGE)]}
    else:
        generator = [line for line in tools if package(line) in LOAD_GENERATOR]
        own = settings.variable(own_application.PACKAGES).splitlines()
        lists = {"models": servers, "loadgen": [*servers, *generator], **({"app": own} if own else {})}
    return {f"requirements/{name}.txt": "\n".join([*lines, ""]).encode() for name, lines in lists.items()}


def package(requirement: str) -> str:
    """`grafana-client` of `grafana-client>=3.11,<4`."""
    return re.split(r"[^\w-]", requirement)[0]


def pack(files: dict[str, bytes]) -> bytes:
    """A compressed archive of the files, without anything of today or of this machine in it."""
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0) as zipped, tarfile.open(fileobj=zipped, mode="w") as archive:
        for name, content in sorted(files.items()):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def main() -> int:
    """Write the archive, unless it is there already."""
    kind, target = sys.argv[1], Path(sys.argv[2])
    archive = pack(contents(kind))
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.exists() or target.read_bytes() != archive:
        target.write_bytes(archive)
    return 0


if __name__ == "__main__":
    sys.exit(main())
