"""Check that the options in Ansible's variables are options that the servers take, before they are used.

`python -m lab.stack.variables JSON`, where JSON has `lab_server_options` and `lab_model_options`. The role `model`
runs this on the machine where Ansible runs.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

from services.options import MODELS, Model, Option, options_of

Options = dict[str, Any]


def faults(server_options: Options, model_options: dict[str, Options]) -> Iterator[str]:
    """Yield each fault as a line. Lines about `lab_server_options` come once, however many models they concern."""
    seen = set()
    for model in MODELS:
        for line in faults_of(model, server_options, "lab_server_options"):
            if line not in seen:
                seen.add(line)
                yield line
        yield from faults_of(model, model_options.get(model, {}), f"lab_model_options of {model}")
    for name in model_options.keys() - MODELS.keys():
        yield f"lab_model_options: no model is called {name!r}; there are {', '.join(MODELS)}"


def faults_of(model: str, given: Options, where: str) -> Iterator[str]:
    """Yield what is wrong with the options that one model is given."""
    known = {option.name: option for option in options_of(model)}
    for name, value in given.items():
        if name not in known:
            yield f"{where}: no option is called {name!r}; `lab models` lists them"
            continue
        if fault := fault_of(known[name], value, MODELS[model]):
            yield f"{where}: {name}: {fault}"


def fault_of(option: Option, value: object, model: Model) -> str:
    """Return why the option cannot take the value; empty if it can."""
    if isinstance(value, bool) and not isinstance(option.default, bool):
        return "YAML reads on, off, yes and no as true and false: put the word in quotes"
    if option.name == "worker-kind" and value not in model.worker_kinds:
        return f"{value!r}: {model.name} takes {' or '.join(model.worker_kinds)}"
    try:
        option.read(str(value))
    except ValueError as error:
        return str(error)
    return ""


def main() -> int:
    """Print what is wrong; 0 if nothing is, else 2."""
    given = json.loads(sys.argv[1])
    found = list(faults(given["lab_server_options"], given["lab_model_options"]))
    print("\n".join(found), end="")
    return 2 if found else 0


if __name__ == "__main__":
    sys.exit(main())
