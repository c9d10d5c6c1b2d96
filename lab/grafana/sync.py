"""Brings a Grafana to what `dashboards/` says: the data source, a folder, and every dashboard.

Each has a uid that stays, so that links keep working and a second run finds everything as it should be. Nothing
is ever deleted, and what was provisioned from files belongs to those files: it is left alone.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from lab import settings
from lab.grafana.api import RefusedError, root_url

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from lab.grafana.api import Grafana, Json

    Write = Callable[..., Any]
    """`Grafana.call`, or nothing at all in a dry run."""

DASHBOARDS = settings.CHECKOUT / "dashboards"
DATA_SOURCE_UID, DATA_SOURCE_TITLE = "lab-prometheus", "Lab Prometheus"
FOLDER_UID, FOLDER_TITLE = "lab", "Accept lab"
BUILT_FOR = f"http://{settings.HOST}:{settings.CONSOLE.default}"
"""Address of the live page in the files."""
CREATED, UPDATED, UNCHANGED, PROVISIONED, REFUSED = "created", "updated", "unchanged", "provisioned", "refused"

ADMIN = "the Admin role, or the permissions datasources:read, datasources:create and datasources:write"
EDITOR = "the Editor role, or the permissions to create and write folders and dashboards"

SCRAPE_INTERVAL = "1s"
"""Interval from which `$__rate_interval` is derived; Prometheus scrapes the lab every second."""
OWNERS_FIELDS = (
    "uid",
    "name",
    "user",
    "database",
    "basicAuth",
    "basicAuthUser",
    "withCredentials",
    "isDefault",
    "version",
)
"""Of a data source: an update replaces all of it, so these are sent back as they are."""
GRAFANAS_FIELDS = {"id", "version"}
"""Of a dashboard: Grafana counts them, so they are no part of what a file says."""


class DashboardError(Exception):
    """A file below `dashboards/` is not a dashboard; the text says which and why."""


@dataclass(frozen=True, slots=True)
class Item:
    """One thing in Grafana and its outcome: created, updated, unchanged, provisioned or refused (`detail` says why)."""

    kind: str
    uid: str
    title: str
    outcome: str
    detail: str = ""


def sync(grafana: Grafana, dashboards: list[Json], prometheus_url: str, *, dry_run: bool = False) -> Iterator[Item]:
    """Push everything, one item at a time; what is refused does not keep the rest from being pushed.

    `prometheus_url` is Prometheus as seen from Grafana. A dry run only reads, and says what would be done.
    Raises GrafanaError.
    """
    write: Write = _nothing if dry_run else grafana.call
    grafana.check()
    yield _item(
        "data source", DATA_SOURCE_UID, DATA_SOURCE_TITLE, partial(_data_source, grafana, write, prometheus_url)
    )
    yield _item("folder", FOLDER_UID, FOLDER_TITLE, partial(_folder, grafana, write))
    for board in dashboards:
        yield _item("dashboard", board["uid"], board["title"], partial(_dashboard, grafana, write, board))


def prometheus_seen_from_grafana(url: str | None = None) -> str:
    """`url`, or else LAB_GRAFANA_PROMETHEUS_URL, or else the stack's Prometheus. Raises SettingError."""
    url = url or settings.variable("LAB_GRAFANA_PROMETHEUS_URL") or settings.PROMETHEUS.url
    return root_url(url, "LAB_GRAFANA_PROMETHEUS_URL", settings.PROMETHEUS.url).geturl()


def read_dashboards(folder: Path = DASHBOARDS) -> list[Json]:
    """Every dashboard below the folder, by file name; they lead to the live page where it is. Raises DashboardError."""
    boards = [_read(path) for path in sorted(folder.rglob("*.json"))]
    uids = [board["uid"] for board in boards]
    for uid in uids:
        if uids.count(uid) > 1:
            raise DashboardError(f"two dashboards below {folder} have the uid {uid!r}: give each its own")
    return boards


def _read(path: Path) -> Json:
    live_page = settings.CONSOLE.given_url or settings.CONSOLE.url
    try:
        board = json.loads(path.read_text(encoding="utf-8").replace(BUILT_FOR, live_page))
    except (OSError, ValueError) as error:
        raise DashboardError(f"{path} is not JSON that can be read ({error}): build the dashboards again") from error
    if not isinstance(board, dict) or not all(isinstance(board.get(key), str) for key in ("uid", "title")):
        raise DashboardError(f"{path} is not a dashboard: it needs a uid and a title at its top")
    return board


def _item(kind: str, uid: str, title: str, push: Callable[[], str]) -> Item:
    try:
        outcome = push()
    except RefusedError as error:
        return Item(kind, uid, title, REFUSED, str(error))
    return Item(kind, uid, title, outcome, "left alone: Grafana has it from files" if outcome == PROVISIONED else "")


def _data_source(grafana: Grafana, write: Write, prometheus_url: str) -> str:
    api = grafana.api.datasource
    ours = {"type": "prometheus", "access": "proxy", "url": prometheus_url}
    options = {"httpMethod": "POST", "timeInterval": SCRAPE_INTERVAL}
    found = grafana.find(api.get_datasource_by_uid, DATA_SOURCE_UID)
    if found is None:
        new = {"uid": DATA_SOURCE_UID, "name": DATA_SOURCE_TITLE, **ours, "jsonData": options}
        write(api.create_datasource, new, needs=ADMIN)
        return CREATED
    if found.get("readOnly"):
        return PROVISIONED
    kept = {key: found[key] for key in OWNERS_FIELDS if key in found}
    changed = {**kept, **ours, "jsonData": {**(found.get("jsonData") or {}), **options}}
    if changed.items() <= found.items():
        return UNCHANGED
    write(api.update_datasource_by_uid, DATA_SOURCE_UID, changed, needs=ADMIN)
    return UPDATED


def _folder(grafana: Grafana, write: Write) -> str:
    api = grafana.api.folder
    # One that exists keeps its title: people rename folders, and links go by the uid.
    if grafana.find(api.get_folder, FOLDER_UID) is not None:
        return UNCHANGED
    write(api.create_folder, FOLDER_TITLE, FOLDER_UID, needs=EDITOR)
    return CREATED


def _dashboard(grafana: Grafana, write: Write, board: Json) -> str:
    api = grafana.api.dashboard
    found = grafana.find(api.get_dashboard, board["uid"])
    if found is None:
        _save(write, api, {**_content(board), "id": None})
        return CREATED
    theirs, meta = found["dashboard"], found["meta"]
    if meta.get("provisioned"):
        return PROVISIONED
    if _content(theirs) == _content(board) and meta.get("folderUid") == FOLDER_UID:
        return UNCHANGED
    # With the version that was read, Grafana refuses to overwrite what somebody has saved since.
    _save(write, api, {**_content(board), **{key: theirs[key] for key in GRAFANAS_FIELDS if key in theirs}})
    return UPDATED


def _save(write: Write, api: Any, board: Json) -> None:
    body = {"dashboard": board, "folderUid": FOLDER_UID, "message": "lab grafana sync", "overwrite": False}
    write(api.update_dashboard, body, needs=EDITOR)


def _content(board: Json) -> Json:
    return {key: value for key, value in board.items() if key not in GRAFANAS_FIELDS}


def _nothing(*_: Any, **__: Any) -> None:
    """Write nothing, in a dry run."""
