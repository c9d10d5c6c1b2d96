"""Write every dashboard to `json/`, which Grafana and `lab grafana sync` read: `python -m dashboards.build`.

The result is committed; a test fails where it is not what this writes.
"""

from __future__ import annotations

import json
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

from dashboards import anatomy, compare, idempotency, kernel_queues, load, workers

FOLDER = Path(__file__).with_name("json")
PAGES = (compare, anatomy, kernel_queues, workers, load, idempotency)


def build() -> dict[str, str]:
    """The text of each file, by its name."""
    boards = [page.dashboard().build() for page in PAGES]
    for board in boards:
        # Links to a panel hold its number.
        for number, panel in enumerate(board.panels or (), start=1):
            panel.id_val = number
    return {f"{board.uid}.json": written(board) for board in boards}


def written(board: Dashboard) -> str:
    """Return a dashboard as JSON."""
    document = json.loads(JSONEncoder().encode(board))
    for variable in document["templating"]["list"]:
        for field in ("auto", "auto_count", "auto_min"):  # an interval's; the SDK writes them for every variable
            variable.pop(field, None)
    return json.dumps(document, sort_keys=True, indent=2, ensure_ascii=False) + "\n"


def main() -> None:
    """Write what has changed, remove what is no more, and say so."""
    files = build()
    FOLDER.mkdir(exist_ok=True)
    for old in FOLDER.glob("*.json"):
        if old.name not in files:
            old.unlink()
            print(f"removed {old.name}")
    for name, text in files.items():
        path = FOLDER / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            print(f"wrote {name}: {json.loads(text)['title']}")


if __name__ == "__main__":
    main()
