"""The command `lab`, and `python -m lab` where no console script is installed, as in the `lab` container."""

from __future__ import annotations

import sys

from lab.settings import SETUP

BAD_USAGE = 2


def main() -> None:
    """Run the command line, or say in one line which package it lacks."""
    try:
        from lab.cli import app
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in {"lab", "services", "loadtests"}:
            raise  # ours: a bug, not an environment
        sys.stderr.write(f"lab: the Python package {error.name!r} is missing: `{SETUP}` installs what the lab needs\n")
        sys.exit(BAD_USAGE)
    app(prog_name="lab")


if __name__ == "__main__":
    main()
