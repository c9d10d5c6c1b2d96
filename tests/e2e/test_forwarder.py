"""The live page behind a real nginx that shows it under another name, in a real browser."""

from __future__ import annotations

import contextlib
import subprocess

import pytest
from playwright.sync_api import sync_playwright
from support.console import Lab
from support.stack import accepts, eventually, free_ports
from support.tools import require_tool

from lab import settings

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

NAME = "lab.example"
PICTURES = settings.CHECKOUT / ".lab" / "pictures"
WITHIN_MS = 30_000
NGINX = """
daemon off; error_log stderr; pid {folder}/nginx.pid; events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
    uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://127.0.0.1:{page};
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection "upgrade";
            {more}
        }}
    }}
}}
"""
PASS_HOST_ON = "proxy_set_header Host $host;"


@pytest.fixture(scope="module")
def browser():
    """A browser for which the name is this machine's."""
    arguments = ["--no-sandbox", f"--host-resolver-rules=MAP {NAME} 127.0.0.1"]
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=require_tool("chromium"), args=arguments)


@pytest.fixture(scope="module")
def page_of_the_lab(tmp_path_factory):
    """The live page alone, no model runs; by the names that it may be called."""
    variables = [port.variable for port in settings.PORTS]
    started = {}

    def start(names):
        if names not in started:
            ports = dict(zip(variables, free_ports(len(variables)), strict=True))
            started[names] = Lab(tmp_path_factory.mktemp("page"), ports, names=names)
            started[names].start_page()
        return started[names]

    yield start
    for lab in started.values():
        lab.end_page()


@contextlib.contextmanager
def forwarder(folder, lab, more=""):
    """nginx before the page; its root."""
    (port,) = free_ports(1)
    folder.mkdir()
    configuration = folder / "nginx.conf"
    configuration.write_text(NGINX.format(folder=folder, port=port, page=lab.ports["LAB_CONSOLE_PORT"], more=more))
    command = [require_tool("nginx"), "-p", folder, "-c", configuration]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    try:
        assert eventually(lambda: accepts(port), 10)
        yield f"http://{NAME}:{port}"
    finally:
        process.terminate()
        process.wait(10)


def opened(browser, url):
    page = browser.new_context(viewport={"width": 1200, "height": 700}).new_page()
    page.set_default_timeout(WITHIN_MS)
    return page, page.goto(url)


def keep(page, name):
    PICTURES.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=PICTURES / f"forwarder-{name}.png")


def test_page_whose_socket_is_refused_says_so_and_what_to_allow(browser, page_of_the_lab, tmp_path):
    with forwarder(tmp_path / "nginx", page_of_the_lab("")) as url:
        page, response = opened(browser, url)
        assert response.status == 200
        told = page.get_by_role("alert").filter(has_text="its socket is refused")
        told.wait_for(timeout=WITHIN_MS)
        assert f"add {NAME} to LAB_CONSOLE_NAMES" in told.text_content()
        keep(page, "refused")
        page.context.close()


@pytest.mark.parametrize("more", ["", PASS_HOST_ON], ids=["called by its address", "Host is passed on"])
def test_page_works_under_a_name_that_is_allowed(browser, page_of_the_lab, tmp_path, more):
    with forwarder(tmp_path / "nginx", page_of_the_lab(NAME), more) as url:
        page, _ = opened(browser, url)
        page.get_by_role("button", name="Try it").click()
        # It opens from the server, through the socket.
        page.get_by_role("group", name="Try it", exact=True).get_by_role("button", name="Start").wait_for()
        assert page.locator("#refused").count() == 0
        keep(page, "allowed")
        page.context.close()


def test_page_under_a_name_that_is_not_allowed_says_which(browser, page_of_the_lab, tmp_path):
    with forwarder(tmp_path / "nginx", page_of_the_lab(""), PASS_HOST_ON) as url:
        page, response = opened(browser, url)
        assert response.status == 403
        assert f"add {NAME} to LAB_CONSOLE_NAMES" in page.text_content("body")
        page.context.close()


def test_forwarder_that_passes_no_websocket_is_told_or_done_without(browser, page_of_the_lab, tmp_path):
    with forwarder(tmp_path / "nginx", page_of_the_lab(NAME)) as url:
        page = browser.new_context().new_page()
        page.route("**/socket.io/**", lambda route: route.abort())
        page.route_web_socket("**/socket.io/**", lambda socket: socket.close())
        page.goto(url)
        page.get_by_role("alert").filter(has_text="lets no WebSocket through").wait_for(timeout=WITHIN_MS)
        page.context.close()
