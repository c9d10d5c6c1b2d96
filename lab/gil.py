"""GIL of the models: on or off.

Not our own process: on a free-threaded build, an extension that does not say that it can do without the GIL brings it
back to the process that loads it, and we load more of them than the models do.
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from functools import cache

ASK = "import services.__main__, sys; print(getattr(sys, '_is_gil_enabled', lambda: True)())"


@cache
def models_have_gil() -> bool:
    """Asks a process like theirs where the build leaves it open, which takes a quarter of a second once."""
    if not sysconfig.get_config_var("Py_GIL_DISABLED"):
        return True
    return subprocess.run([sys.executable, "-c", ASK], check=True, capture_output=True, text=True).stdout == "True\n"
