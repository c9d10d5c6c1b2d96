"""What can be wrong between `lab grafana` and Grafana: each is one line that says what to do, and exit code 2."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from support.certificate import self_signed
from support.fake_grafana import FakeGrafana, serve_grafana, serve_page

from lab.grafana import api

LAB = Path(sys.executable).with_name("lab")


def assert_refused(done, *words: str) -> None:
    """One line on stderr that holds the words, nothing on stdout, exit code 2."""
    assert done.exit_code == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1, done.stderr
    for word in words:
        assert word in done.stderr


@pytest.fixture(params=["sync", "annotate"])
def ask(request, lab):
    """Either command, on a URL."""
    words = {"sync": ["sync"], "annotate": ["annotate", "text"]}[request.param]
    return lambda url, *more: lab(*words, "--url", url, *more)


@pytest.fixture
def certificate(tmp_path):
    return self_signed(tmp_path)


def test_nothing_listens(ask):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        assert_refused(ask(f"http://127.0.0.1:{unused.getsockname()[1]}"), "Connection refused", "LAB_GRAFANA_URL")


def test_name_is_unknown(ask):
    assert_refused(ask("http://no-such-host.invalid:3000"), "no Grafana can be reached", "no-such-host.invalid")


def test_nothing_answers_in_time(ask, monkeypatch):
    monkeypatch.setattr(api.Grafana.from_settings.__func__, "__defaults__", (None, None, None, 0.2))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert_refused(ask(f"http://127.0.0.1:{silent.getsockname()[1]}"), "does not answer in time")


def test_certificate_is_not_trusted(ask, certificate):
    with serve_page(certificate=certificate) as url:
        assert_refused(ask(url), "TLS", "self-signed certificate", "REQUESTS_CA_BUNDLE")


def test_https_where_http_is_spoken(ask, grafana):
    assert_refused(ask(grafana.url.replace("http:", "https:")), "TLS", "http://")


def test_http_is_not_spoken(ask):
    with serve_page(b"", status=999) as url:
        assert_refused(ask(url), url)


@pytest.mark.parametrize("status", [200, 404])
@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("text/html", b"<html><title>Router</title></html>"),
        ("application/json", b'{"detail": "Not Found"}'),
        ("application/json", b"[1]"),
        ("application/json", b"<html>"),
    ],
)
def test_something_else_answers(ask, status, kind, body):
    with serve_page(body, status, Content_Type=kind) as url:
        assert_refused(ask(url), "is not Grafana", "LAB_GRAFANA_URL")


def test_url_leads_elsewhere(ask):
    with serve_page(status=302, Location="https://sso.example/login") as url:
        assert_refused(ask(url), "https://sso.example/login", "LAB_GRAFANA_URL")


def test_grafana_has_a_fault(ask):
    body = json.dumps({"message": "database is locked"}).encode()
    with serve_page(body, 503, Content_Type="application/json") as url:
        assert_refused(ask(url), "503", "database is locked", "log")


def test_grafana_is_too_old(ask, grafana):
    grafana.version = "8.5.27"
    assert_refused(ask(grafana.url), "8.5.27", "9.0 or newer")
    assert grafana.writes == []


def test_grafana_that_hides_its_version_is_taken(ask, grafana):
    grafana.hides_version = True
    assert ask(grafana.url).exit_code == 0


@pytest.mark.parametrize("credential", [[], ["--token", "wrong"], ["--user", "ann:wrong"]])
def test_credentials_are_not_accepted(ask, credential):
    with serve_grafana(FakeGrafana()) as grafana:
        assert_refused(ask(grafana.url, *credential), "LAB_GRAFANA_TOKEN", "Service accounts")


def test_token_from_a_file_may_end_with_a_line_break(ask, grafana):
    assert ask(grafana.url, "--token", "secret\n").exit_code == 0


@pytest.mark.parametrize(
    "url",
    [
        "127.0.0.1:3000",
        "localhost:3000",
        "ftp://host",
        "http://",
        "http://[::1",
        "http://host:99999",
        "http://h/?x=1",
        " ",
    ],
)
def test_url_that_is_none(ask, url):
    assert_refused(ask(url), "LAB_GRAFANA_URL", "http://127.0.0.1:3000")


def test_password_in_the_url_is_not_repeated(ask):
    done = ask("http://ann:hunter2@127.0.0.1:99999")
    assert_refused(done, "LAB_GRAFANA_USER")
    assert "hunter2" not in done.stderr


@pytest.mark.parametrize("wrong", [["--token", "se cret"], ["--token", "geheimnïs"], ["--user", "ann"]])
def test_credential_that_is_none_is_not_repeated(ask, wrong):
    done = ask("http://127.0.0.1:3000", *wrong)
    assert_refused(done, "LAB_GRAFANA_")
    assert wrong[1] not in done.stderr


def test_proxy_of_the_machine_does_not_get_what_is_for_loopback(ask, grafana, monkeypatch):
    with serve_page(b"proxy", 502) as proxy:
        monkeypatch.setenv("http_proxy", proxy)
        monkeypatch.delenv("no_proxy", raising=False)
        assert ask(grafana.url).exit_code == 0


def test_default_is_the_grafana_of_the_stack(monkeypatch):
    monkeypatch.setenv("LAB_GRAFANA_PORT", "23000")
    assert api.Grafana.from_settings().url == "http://127.0.0.1:23000"


@pytest.mark.parametrize(
    ("url", "uses_proxy"),
    [
        ("http://grafana:3000", False),
        ("http://[::1]:3000", False),
        ("http://grafana.example", True),
        ("http://[2001:db8::1]:3000", True),
        ("https://grafana", True),  # its certificate may be in REQUESTS_CA_BUNDLE, which goes with the proxy
    ],
)
def test_proxy_of_the_machine_is_not_asked_for_what_it_cannot_reach(url, uses_proxy):
    assert api.Grafana(url).api.client.s.trust_env is uses_proxy


def test_ipv6_address_keeps_its_brackets():
    grafana = api.Grafana("https://[::1]:3000/grafana/")
    assert grafana.api.client.url == "https://[::1]:3000/grafana/api"


def test_console_script_fails_in_one_line():
    done = subprocess.run(
        [LAB, "grafana", "sync", "--url", "http://127.0.0.1:9"], capture_output=True, text=True, timeout=30
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
