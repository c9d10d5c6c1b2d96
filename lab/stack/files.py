"""Writing the files that parts of the stack read.

`python -m lab.stack.files < JSON` is a step of `lab up` in containers; JSON has the text of each file by its path.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path

MODE, FOLDER_MODE = 0o644, 0o755
"""Whatever the umask is: what runs in a container is another user."""


def different(texts: Mapping[str, str]) -> list[Path]:
    """Return the paths at which there is another text, or none."""
    return [Path(path) for path, text in texts.items() if _text_of(Path(path)) != text]


def write(texts: Mapping[str, str]) -> list[str]:
    """Write the files that differ, each as a whole; a line for each. Raises OSError."""
    changed = different(texts)
    for path in changed:
        if not path.parent.is_dir():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.parent.chmod(FOLDER_MODE)
        new = path.with_name(f".{path.name}.new")
        new.write_text(texts[str(path)], encoding="utf-8")
        new.chmod(MODE)
        new.rename(path)
    return [f"{path}: written" for path in changed]


def let_all_read(folder: Path) -> None:
    """Let everybody read a folder and all in it, as `chmod a+rX` does; a checkout may have been made with umask 077.

    Raises OSError.
    """
    for path in (folder, *folder.rglob("*")):
        mode = path.stat().st_mode
        wanted = mode | 0o444 | (0o111 if path.is_dir() else 0)
        if mode != wanted:
            path.chmod(wanted)


def _text_of(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.exists() else None


def main() -> int:
    """Write what standard input lists, or with --check say what would be written; a line for each."""
    texts: dict[str, str] = json.load(sys.stdin)
    try:
        done = [f"{path}: would be written" for path in different(texts)] if "--check" in sys.argv else write(texts)
    except OSError as error:
        print(f"{error.filename}: {error.strerror}")
        return 1
    print("\n".join(done), end="\n" if done else "")
    return 0


if __name__ == "__main__":
    sys.exit(main())
