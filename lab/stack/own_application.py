"""An application of the user's own for the whole stack: `LAB_APP` and `LAB_APP_DIR`, before Ansible reads them.

Each server looks at it again, and says what is wrong with it (services/apps/loading.py).
"""

from __future__ import annotations

import os
from pathlib import Path

from lab import settings

NAME, FOLDER = "LAB_APP", "LAB_APP_DIR"


def prepare(place: str) -> None:
    """Make the folder's path absolute, for programs that run elsewhere. Raises SettingError where it cannot be had."""
    app = settings.variable(NAME)
    if not app:
        return
    module, colon, attribute = app.partition(":")
    if not (module and colon and attribute):
        raise settings.SettingError(f"{NAME}={app!r}: give MODULE:ATTRIBUTE, for example shop:app for `app` in shop.py")
    if place != "local":
        raise settings.SettingError(f"{NAME}: an application of your own is served in the local place: PLACE=local")
    folder = Path(settings.variable(FOLDER, ".")).expanduser().absolute()
    first = module.partition(".")[0]
    if not ((folder / first).is_dir() or (folder / f"{first}.py").is_file()):
        raise settings.SettingError(f"{FOLDER}={str(folder)!r}: there is no module {first!r} in it")
    os.environ[FOLDER] = str(folder)
