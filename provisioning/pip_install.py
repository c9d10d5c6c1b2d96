"""Run pip with the user's settings of where packages come from, and with none of where they go, or which.

    python pip_install.py ARGUMENT...   (of `pip install`)

Somebody's PIP_TARGET, PIP_USER or a pip.conf with a prefix would put the lab's packages where it never looks. An index,
a proxy and certificates are another matter: they may be the only way to any package.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys

import pip_progress

KEPT = frozenset({
    "index-url", "extra-index-url", "find-links", "no-index", "trusted-host", "proxy", "cert", "client-cert",
    "keyring-provider", "timeout", "default-timeout", "retries", "resume-retries", "cache-dir", "no-cache-dir",
    "use-feature",
})  # fmt: skip
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check")
SECTIONS = ("global", "install", ":env:")
"""From the weakest to the strongest, as pip has it."""


def main() -> int:
    """Install; pip's exit code."""
    listed = subprocess.run([*PIP, "config", "list"], env=without_pip("PIP_PYTHON"), capture_output=True, text=True)
    if listed.returncode:
        sys.stderr.write(listed.stderr)
        return listed.returncode
    environment = {**without_pip("PIP_"), "PIP_CONFIG_FILE": os.devnull, **kept(listed.stdout)}
    return pip_progress.install(sys.argv[1:], environment)


def without_pip(prefix: str) -> dict[str, str]:
    """Return the environment without the variables that begin so."""
    return {name: value for name, value in os.environ.items() if not name.upper().startswith(prefix)}


def kept(listed: str) -> dict[str, str]:
    """Return the variables of the settings that are kept, from lines such as `global.index-url='https://…'`."""
    lines = [line.partition("=")[::2] for line in listed.splitlines() if "=" in line]
    found = {key: " ".join(str(ast.literal_eval(value)).split()) for key, value in lines}
    names = [(section, name) for section in SECTIONS for name in sorted(KEPT) if f"{section}.{name}" in found]
    return {f"PIP_{name.upper().replace('-', '_')}": found[f"{section}.{name}"] for section, name in names}


if __name__ == "__main__":
    sys.exit(main())
