"""The applications of docs/your-app.md are served as the page says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support import plain_http
from support.servers import Server

from lab.settings import CHECKOUT

PAGE = (CHECKOUT / "docs" / "your-app.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"```python\n# (\w+)\.py\n(.*?)```", PAGE, re.DOTALL))
WSGI = ["plain_shop", "flask_shop", "django_shop"]
ASGI = ["plain_async_shop", "starlette_shop", "fastapi_shop"]


@pytest.mark.parametrize("name", WSGI + ASGI)
def test_application_of_the_page_is_served(serve, tmp_path: Path, name: str) -> None:
    (tmp_path / f"{name}.py").write_text(FILES[name], encoding="utf-8")
    server: Server = serve("nginx", "--workers", "1", "--app", f"{name}:app", "--app-dir", str(tmp_path))
    with plain_http.Client(base_url=server.url, timeout=20) as client:
        assert client.get("/").text == "hello\n"
        assert client.get("/slow").text == "slow\n"
        if name in ASGI:
            assert client.get("/blocking").text == "blocking\n"
        answer = client.get("/list")
        assert (answer.text, answer.headers["transfer-encoding"]) == ("item 0\nitem 1\nitem 2\n", "chunked")
        assert client.post("/orders", content=b"12345").text == "5 bytes ordered\n"
        assert answer.headers["x-worker"] == "0"
    assert "ERROR" not in server.log.read_text()
