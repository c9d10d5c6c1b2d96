"""The code that a host needs, as one archive: `python -m lab.stack.bundle FILE`, before it is copied there.

The same code gives the same bytes, so that nothing is copied or restarted where nothing has changed.
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

from lab.settings import CHECKOUT

CODE = (
    "services",
    "loadtests",
    "dashboards",
    # What those import, and what brings the units up: an edit elsewhere in lab/ restarts nothing.
    "lab/__init__.py",
    "lab/settings.py",
    "lab/measure/__init__.py",
    "lab/measure/histogram.py",
    "lab/stack/units.py",
)
SUFFIXES = (".py", ".json", ".yml", ".ini")
LOAD_GENERATOR = "locust"


def contents() -> dict[str, bytes]:
    """Every file of the archive, by its path in it."""
    return {**dict(code()), **requirements(), "constraints.txt": (CHECKOUT / "constraints.txt").read_bytes()}


def code() -> Iterator[tuple[str, bytes]]:
    """What of the checkout runs, or configures what runs."""
    for name in CODE:
        top = CHECKOUT / name
        for path in sorted(top.rglob("*")) if top.is_dir() else [top]:
            if path.suffix in SUFFIXES and path.is_file():
                yield str(path.relative_to(CHECKOUT)), path.read_bytes()


def requirements() -> dict[str, bytes]:
    """What pip installs, for each group of hosts: what pyproject.toml asks for, and no more than is needed."""
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    servers = project["dependencies"]
    optional = [line for extra in project["optional-dependencies"].values() for line in extra]
    locust = [line for line in dict.fromkeys(optional) if re.split(r"\W", line)[0] == LOAD_GENERATOR]
    groups = {"models": servers, "loadgen": [*servers, *locust]}
    return {f"requirements/{name}.txt": "\n".join([*lines, ""]).encode() for name, lines in groups.items()}


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
    target = Path(sys.argv[1])
    archive = pack(contents())
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.exists() or target.read_bytes() != archive:
        target.write_bytes(archive)
    return 0


if __name__ == "__main__":
    sys.exit(main())
