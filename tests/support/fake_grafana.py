"""A Grafana that keeps what it is given, and refuses every request that its HTTP API's documentation does not allow.

It knows what `lab grafana` uses: health, data sources, folders, dashboards, annotations; with the roles that each
needs, objects provisioned from files, optimistic versions, and the places where Grafana's versions differ.
"""

from __future__ import annotations

import base64
import contextlib
import json
import ssl
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

ROLES = ["None", "Viewer", "Editor", "Admin"]
ABSENT = type(None)
LOOPBACK = ("127.0.0.1", 0)

# Body fields and types: the documentation's, and the swagger file's where the pages only give examples.
DATA_SOURCE = {
    "uid": str, "name": str, "type": str, "access": str, "url": str, "user": str, "database": str, "basicAuth": bool,
    "basicAuthUser": str, "withCredentials": bool, "isDefault": bool, "jsonData": dict, "secureJsonData": dict,
}  # fmt: skip
DATA_SOURCE_UPDATE = {**DATA_SOURCE, "version": int}
FOLDER = {"uid": str, "title": str, "parentUid": str}
DASHBOARD = {"dashboard": dict, "folderUid": str, "message": str, "overwrite": bool}
ANNOTATION = {
    "dashboardId": (int, ABSENT), "dashboardUID": str, "panelId": (int, ABSENT), "time": (int, ABSENT),
    "timeEnd": (int, ABSENT), "tags": list, "text": str,
}  # fmt: skip


class Answer(Exception):  # noqa: N818
    """Raised anywhere below: what to answer instead."""

    def __init__(self, code: int, message: str, **more: str) -> None:
        super().__init__(message)
        self.code, self.body = code, {"message": message, **more}


@dataclass
class FakeGrafana:
    """What a test sets before, and looks at after."""

    version: str = "12.4.0"
    tokens: dict[str, str] = field(default_factory=lambda: {"secret": "Admin"})
    """Token → role."""
    users: dict[str, str] = field(default_factory=dict)
    """`name:password` → role."""
    anonymous: str | None = None
    """The role of those who give no credentials; None: they get 401."""
    hides_version: bool = False
    data_sources: dict[str, dict] = field(default_factory=dict)
    folders: dict[str, dict] = field(default_factory=dict)
    dashboards: dict[str, dict] = field(default_factory=dict)
    """uid → {"dashboard", "meta"}, as Grafana answers."""
    annotations: list[dict] = field(default_factory=list)
    requests: list[tuple[str, str]] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    """Requests that no documentation allows; the fixture that made this asserts that there are none."""
    before_write: Callable[[], None] = lambda: None
    """Somebody else, who is quicker."""
    url: str = ""

    @property
    def writes(self) -> list[tuple[str, str]]:
        return [request for request in self.requests if request[0] != "GET"]

    @property
    def release(self) -> tuple[int, ...]:
        return tuple(int(part) for part in self.version.split(".")[:2])

    # Content that is there before a test begins.

    def add_data_source(self, uid: str, **fields: Any) -> dict:
        number = len(self.data_sources) + 1
        self.data_sources[uid] = {
            "id": number, "uid": uid, "orgId": 1, "name": f"source {number}", "type": "prometheus", "typeLogoUrl": "",
            "access": "proxy", "url": "", "user": "", "database": "", "basicAuth": False, "basicAuthUser": "",
            "withCredentials": False, "isDefault": False, "jsonData": {}, "secureJsonFields": {}, "version": 1,
            "readOnly": False, **fields,
        }  # fmt: skip
        return self.data_sources[uid]

    def add_folder(self, uid: str, title: str) -> dict:
        self.folders[uid] = {"id": len(self.folders) + 1, "uid": uid, "title": title, "version": 1}
        return self.folders[uid]

    def add_dashboard(self, model: dict, folder: str = "", **meta: Any) -> dict:
        before = self.dashboards.get(model["uid"], {"dashboard": {"id": len(self.dashboards) + 1, "version": 0}})
        counted = {"id": before["dashboard"]["id"], "version": before["dashboard"]["version"] + 1}
        self.dashboards[model["uid"]] = {
            "dashboard": {**model, **counted},
            "meta": {"folderUid": folder, "provisioned": False, "version": counted["version"], **meta},
        }
        return self.dashboards[model["uid"]]

    # The API.

    def answer(self, method: str, path: str, authorization: str | None, body: dict | None) -> dict:
        self.requests.append((method, path))
        if (method, path) == ("GET", "/api/health"):
            health = {"database": "ok"}
            return health if self.hides_version else {**health, "commit": "087143285", "version": self.version}
        role = self.role(authorization)
        steps = path.removeprefix("/api/").split("/")
        if method == "GET":
            return self.read(role, steps)
        self.before_write()
        return self.write(role, method, steps, body)

    def read(self, role: str, steps: list[str]) -> dict:
        match steps:
            case ["datasources", "uid", uid]:
                self.need(role, "Admin", "datasources:read")
                return self.found(self.data_sources, uid, "Data source not found")
            case ["folders", uid]:
                if uid not in self.folders and self.release >= (13, 0):
                    self.need(role, "Admin", "folders:read")  # the scope cannot be resolved
                self.need(role, "Viewer", "folders:read")
                return self.found(self.folders, uid, "folder not found")
            case ["dashboards", "uid", uid]:
                self.need(role, "Viewer", "dashboards:read")
                return self.found(self.dashboards, uid, "Dashboard not found")
        raise self.violation(404, f"GET {steps} is not in the documentation")

    def write(self, role: str, method: str, steps: list[str], body: dict | None) -> dict:
        match method, steps:
            case "POST", ["datasources"]:
                self.need(role, "Admin", "datasources:create")
                return self.create_data_source(self.checked(body, DATA_SOURCE, "name", "type", "access"))
            case "PUT", ["datasources", "uid", uid] if self.release >= (9, 0):
                self.need(role, "Admin", "datasources:write")
                return self.update_data_source(uid, self.checked(body, DATA_SOURCE_UPDATE, "name", "type", "access"))
            case "POST", ["folders"]:
                self.need(role, "Editor", "folders:create")
                return self.create_folder(self.checked(body, FOLDER, "title"))
            case "POST", ["dashboards", "db"]:
                self.need(role, "Editor", "dashboards:write")
                return self.save_dashboard(**self.checked(body, DASHBOARD, "dashboard"))
            case "POST", ["annotations"]:
                self.need(role, "Editor", "annotations:create")
                return self.create_annotation(self.checked(body, ANNOTATION, "text"))
        raise self.violation(404, f"{method} {steps} is not in the documentation")

    def role(self, authorization: str | None) -> str:
        scheme, _, value = (authorization or "").partition(" ")
        if not authorization and self.anonymous:
            return self.anonymous
        if scheme == "Bearer" and value in self.tokens:
            return self.tokens[value]
        if scheme == "Basic" and base64.b64decode(value).decode() in self.users:
            return self.users[base64.b64decode(value).decode()]
        raise Answer(401, "Invalid API key" if scheme == "Bearer" else "Unauthorized")

    def need(self, role: str, least: str, permission: str) -> None:
        if ROLES.index(role) < ROLES.index(least):
            needed = f"You'll need additional permissions to perform this action. Permissions needed: {permission}"
            raise Answer(403, needed, title="Access denied", accessErrorId="ACE1")

    def found(self, objects: dict[str, dict], uid: str, otherwise: str) -> dict:
        if uid not in objects:
            raise Answer(404, otherwise)
        return objects[uid]

    def checked(self, body: dict | None, fields: dict[str, Any], *required: str) -> dict:
        if not isinstance(body, dict):
            raise self.violation(400, "the body is not a JSON object")
        for key, value in body.items():
            if key not in fields or not isinstance(value, fields[key]):
                raise self.violation(400, f"the body's {key}={value!r} is not documented")
        if missing := [key for key in required if not body.get(key)]:
            raise self.violation(400, f"the body lacks {missing}")
        return body

    def violation(self, status: int, text: str) -> Answer:
        self.violations.append(text)
        return Answer(status, text)

    def create_data_source(self, new: dict) -> dict:
        if new["uid"] in self.data_sources or any(new["name"] == old["name"] for old in self.data_sources.values()):
            raise Answer(409, "data source with the same name already exists")
        made = self.add_data_source(**new)
        return {"datasource": made, "id": made["id"], "message": "Datasource added", "name": made["name"]}

    def update_data_source(self, uid: str, new: dict) -> dict:
        old = self.found(self.data_sources, uid, "Data source not found")
        if old["readOnly"]:
            raise Answer(403, "Cannot update read-only data source")
        if new.pop("version", old["version"]) != old["version"]:
            raise Answer(409, "Datasource has already been updated by someone else. Please reload and try again")
        # All of it is replaced, save the secrets.
        made = self.add_data_source(**new)
        made.update(id=old["id"], version=old["version"] + 1, secureJsonFields=old["secureJsonFields"])
        return {"datasource": made, "id": made["id"], "message": "Datasource updated", "name": made["name"]}

    def create_folder(self, new: dict) -> dict:
        if new["uid"] in self.folders:
            raise Answer(412 if self.release >= (13, 0) else 409, "a folder with the same uid already exists")
        return self.add_folder(new["uid"], new["title"])

    def save_dashboard(
        self, dashboard: dict, folderUid: str = "", message: str = "", overwrite: bool = False  # noqa: N803
    ) -> dict:  # fmt: skip
        if folderUid and folderUid not in self.folders:
            raise Answer(400, "folder not found")
        if len(dashboard.get("uid") or "") > 40 or not dashboard.get("title"):
            raise self.violation(400, "a dashboard needs a title, and a uid of at most 40 characters")
        old = self.dashboards.get(dashboard["uid"])
        if old and old["meta"]["provisioned"]:
            raise Answer(400, "Cannot save provisioned dashboard")
        if old is None and dashboard.get("id"):
            raise Answer(404, "Dashboard not found", status="not-found")
        if old and not overwrite and dashboard.get("version") != old["dashboard"]["version"]:
            raise Answer(412, "The dashboard has been changed by someone else", status="version-mismatch")
        saved = self.add_dashboard(dashboard, folderUid)["dashboard"]
        return {key: saved[key] for key in ("id", "uid", "version")} | {"status": "success"}

    def create_annotation(self, new: dict) -> dict:
        if self.release < (9, 1):
            new.pop("dashboardUID", None)  # added during the 9s; ignored before
        self.annotations.append({key: value for key, value in new.items() if value is not None})
        return {"message": "Annotation added", "id": len(self.annotations)}


@contextlib.contextmanager
def serve_grafana(
    grafana: FakeGrafana, prefix: str = "", address: tuple[str, int] = LOOPBACK
) -> Iterator[FakeGrafana]:  # fmt: skip
    """It, on a port of its own and below `prefix`; `grafana.url` is its root."""

    class Handler(BaseHTTPRequestHandler):
        def reply(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            sent = self.rfile.read(length)
            try:
                if not self.path.startswith(f"{prefix}/api/"):
                    raise grafana.violation(404, f"{self.path} is outside of {prefix}/api/")
                if sent and self.headers.get_content_type() != "application/json":
                    raise grafana.violation(400, "the body is not declared as JSON")
                body = json.loads(sent) if sent else None
                path = self.path.removeprefix(prefix)
                status, answer = 200, grafana.answer(self.command, path, self.headers.get("Authorization"), body)
            except Answer as instead:
                status, answer = instead.code, instead.body
            page = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json; charset=UTF-8")
            self.send_header("Content-Length", str(len(page)))
            self.end_headers()
            self.wfile.write(page)

        def __getattr__(self, name: str) -> object:
            if name.startswith("do_"):
                return self.reply
            raise AttributeError(name)

        def log_message(self, *arguments: object) -> None:
            pass

    with serve(Handler, address=address) as url:
        grafana.url = url + prefix
        yield grafana
    assert not grafana.violations


@contextlib.contextmanager
def serve_page(
    body: bytes = b"", status: int = 200, certificate: Path | None = None, **headers: str
) -> Iterator[str]:  # fmt: skip
    """Something that is not Grafana: one answer to everything."""

    class Handler(BaseHTTPRequestHandler):
        def reply(self) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            self.reply()

        def do_POST(self) -> None:
            self.reply()

        def log_message(self, *arguments: object) -> None:
            pass

    with serve(Handler, certificate) as url:
        yield url


class Server(ThreadingHTTPServer):
    def handle_error(self, request: object, address: object) -> None:
        # A client that hangs up is what some tests are about.
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, address)


@contextlib.contextmanager
def serve(
    handler: type[BaseHTTPRequestHandler], certificate: Path | None = None, address: tuple[str, int] = LOOPBACK
) -> Iterator[str]:  # fmt: skip
    server = Server(address, handler)
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"{'https' if certificate else 'http'}://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
