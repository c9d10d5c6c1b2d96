"""An application of the user's own for the whole stack: `LAB_APP` and its neighbours, before Ansible reads them.

Each server looks at it again, and says what is wrong with it (services/apps/loading.py).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from lab import settings

NAME, FOLDER, REQUIREMENTS = "LAB_APP", "LAB_APP_DIR", "LAB_APP_REQUIREMENTS"
PACKAGES = "LAB_APP_PACKAGES"
"""The text of the file of requirements, which the images are built with (docker-compose.yml)."""
MAX_REQUIREMENTS_BYTES = 64 * 1024
"""Of one variable of the environment Linux takes twice as much."""
MAX_BYTES = 64 * 1024 * 1024
"""Of the files that are brought to hosts."""
LEFT_BEHIND = {"__pycache__", "node_modules", "venv"}


def prepare(place: str) -> None:
    """Set the variables as Ansible and Compose are to read them. Raises SettingError where it cannot be had."""
    app = settings.variable(NAME)
    if not app:
        for name in (FOLDER, PACKAGES):
            os.environ.pop(name, None)
        return
    module, colon, attribute = app.partition(":")
    if not (module and colon and attribute):
        raise settings.SettingError(f"{NAME}={app!r}: give MODULE:ATTRIBUTE, for example shop:app for `app` in shop.py")
    folder = Path(settings.variable(FOLDER, ".")).expanduser().absolute()
    first = module.partition(".")[0]
    if not ((folder / first).is_dir() or (folder / f"{first}.py").is_file()):
        raise settings.SettingError(f"{FOLDER}={str(folder)!r}: there is no module {first!r} in it")
    os.environ[FOLDER] = str(folder)
    prepare_packages(place)
    if place == "vms":
        files()
    if place == "containers" and (closed := next(unreadable(folder), None)):
        raise settings.SettingError(f"{closed} cannot be read by others, as containers are: chmod -R a+rX {folder}")


def prepare_packages(place: str) -> None:
    """Read the file of requirements for the image. Raises SettingError."""
    os.environ.pop(PACKAGES, None)
    file = settings.variable(REQUIREMENTS)
    if not file:
        return
    if place == "local":
        raise settings.SettingError(f"{REQUIREMENTS}: the local place takes what is in .venv: pip install -r {file}")
    try:
        text = Path(file).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        raise settings.SettingError(f"{REQUIREMENTS}={file!r}: {getattr(error, 'strerror', error)}") from error
    if len(text.encode()) > MAX_REQUIREMENTS_BYTES:
        raise settings.SettingError(f"{REQUIREMENTS}={file!r} has more than {MAX_REQUIREMENTS_BYTES} bytes")
    os.environ[PACKAGES] = text


def files() -> dict[str, bytes]:
    """Return the files that a host gets, by their paths in `app`; none where it has the built-in application.

    Whatever begins with a dot, caches and virtual environments stay here. Raises SettingError.
    """
    if not settings.variable(NAME):
        return {}
    folder = Path(settings.variable(FOLDER))
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and is_brought(path.relative_to(folder))]
    if sum(path.stat().st_size for path in paths) > MAX_BYTES:
        raise settings.SettingError(f"{FOLDER}: {folder} has more than {MAX_BYTES >> 20} MiB: hosts get it whole")
    return {f"app/{path.relative_to(folder)}": path.read_bytes() for path in paths}


def is_brought(path: Path) -> bool:
    """Return whether a host gets what is at this path of the folder."""
    return not any(part.startswith(".") or part in LEFT_BEHIND for part in path.parts)


def unreadable(folder: Path) -> Iterator[Path]:
    """Yield the folder, its parents, and what lies directly in it, where others may not read them."""
    for path in (folder, *folder.parents):
        if not path.stat().st_mode & 0o001:
            yield path
    for path in folder.iterdir():
        if path.is_file() and not path.stat().st_mode & 0o004:
            yield path
