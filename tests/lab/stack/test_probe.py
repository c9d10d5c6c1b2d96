"""What counts as an answer."""

from __future__ import annotations

import socket

import pytest
from support.certificate import self_signed
from support.fake_grafana import FakeGrafana, serve_grafana, serve_page

from lab.stack.probe import answers

SECONDS = 5.0


@pytest.mark.parametrize(("status", "works"), [(200, True), (302, True), (404, False), (503, False)])
def test_status_says_whether_it_works(status, works):
    with serve_page(status=status) as url:
        assert answers(url, "/healthz", SECONDS) is works


def test_path_of_the_root_is_kept():
    # The fake answers below its prefix alone.
    with serve_grafana(FakeGrafana(), prefix="/sub/grafana") as grafana:
        assert answers(grafana.url, "/api/health", SECONDS)
        assert answers(f"{grafana.url}/", "/api/health", SECONDS)
        assert grafana.requests == [("GET", "/api/health")] * 2


def test_https_is_spoken_where_the_root_says_so(tmp_path, monkeypatch):
    with serve_page(status=404, certificate=(path := self_signed(tmp_path))) as url:
        there = url.replace("127.0.0.1", "localhost")
        assert answers(there, "/", SECONDS)  # whom to trust is not for us to say
        assert not answers(there.replace("https:", "http:"), "/", SECONDS)
        monkeypatch.setenv("SSL_CERT_FILE", str(path))
        assert not answers(there, "/", SECONDS)  # trusted, and it says 404


def test_nobody_there_is_no_answer():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        assert not answers(f"http://127.0.0.1:{unused.getsockname()[1]}", "/", SECONDS)


@pytest.mark.parametrize("root", ["", "localhost:3000", "http://[::1", "http://127.0.0.1:99999", "http://127.0.0.1:x"])
def test_what_is_no_url_is_no_answer(root):
    assert not answers(root, "/", SECONDS)


def test_proxy_of_the_machine_is_not_asked(monkeypatch):
    with serve_page() as url, serve_page(status=502) as proxy:
        monkeypatch.setenv("http_proxy", proxy)
        monkeypatch.delenv("no_proxy", raising=False)
        assert answers(url, "/", SECONDS)
