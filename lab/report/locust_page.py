"""The process that keeps a run of Locust's own page: `loadtests.keeping` starts it, and tells it beginning and end."""

from __future__ import annotations

import contextlib
import json
import signal
import sys
import time
from datetime import UTC, datetime
from typing import Any

from lab.load.served import Watch
from lab.settings import ADMIN_PORTS


def main() -> int:
    """Read the beginning, watch the server, read the result, and store the run."""
    # Ctrl-C in Locust's terminal is for Locust, which then says how the run ended.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    about = _line()
    if about is None:
        return 0
    begun, started = datetime.now(UTC), time.monotonic()
    model = about["model"]
    with Watch(model) if model in ADMIN_PORTS else contextlib.nullcontext() as watch:
        result = _line()
    if result is None:  # interrupted
        return 0
    # Only now: they take a second, and the server is to be watched from the beginning.
    from lab import results
    from lab.load.locust import Load, describe, mark_in_grafana
    from lab.load.result import Repeat
    from lab.report import page

    server = watch.document(result["began"], result["began"] + result["seconds"]) if watch else {}
    folder = results.new_folder(f"load-{model}", begun)
    repeat = Repeat(0, model, None, result, 0, server)
    load = Load((model,), about["users"], about["rate"], result["seconds"], " ".join(about["classes"]))
    made = describe(load, folder.name, begun, time.monotonic() - started, [repeat])
    users = max((each["users"] for each in made["repeats"][0]["series"]), default=0)
    made["options"]["users"] = users or about["users"]
    made["command"] = f"Locust's page: {load.kind}, {made['options']['users']} users on {model}"
    results.write(folder, made)
    mark_in_grafana(made)
    results.prune()
    page.write_with_index(folder)
    return 0


def _line() -> dict[str, Any] | None:
    line = sys.stdin.readline()
    return json.loads(line) if line.endswith("\n") else None


if __name__ == "__main__":
    sys.exit(main())
