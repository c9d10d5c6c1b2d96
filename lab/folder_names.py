"""Folders that the lab can live in: almost any, but some characters cannot be written in what others read.

`python3 -m lab.folder_names FOLDER` says why not, in a line, before there is an environment: Python's own library only.
"""

from __future__ import annotations

import os
import sys
import unicodedata


def fault_of(folder: str) -> str:
    """Return why the lab cannot live in the folder; empty if it can."""
    try:
        text = os.fsencode(folder).decode("utf-8")
    except UnicodeDecodeError as error:
        byte = f"0x{error.object[error.start]:02X}"
        return f"the folder {folder!a} has the byte {byte} in its name, which is no UTF-8"
    for character in text:
        if character == ":":
            return f"the folder {folder} has a colon in its name, which Python's virtual environments forbid"
        if unicodedata.category(character) in {"Cc", "Zl", "Zp"}:
            return f"the folder {folder!a} has the control character U+{ord(character):04X} in its name"
    return ""


def main() -> int:
    """Print the fault; 2 if there is one."""
    fault = fault_of(sys.argv[1])
    if fault:
        print(f"setup: {fault}: move or rename it", file=sys.stderr)
    return 2 if fault else 0


if __name__ == "__main__":
    sys.exit(main())
