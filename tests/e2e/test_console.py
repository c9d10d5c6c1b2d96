"""The live page in a real browser, beside real models under real load.

Pictures of what the tests see are kept in `.lab/pictures`, to be looked at.
"""

from __future__ import annotations

import hashlib
import re
import socket
import time

import httpx
import psutil
import pytest
from support import console
from support.servers import children_of
from support.tools import require_tool

from lab import settings

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

PICTURES = settings.CHECKOUT / ".lab" / "pictures"
PAGES = ("/", "/model/memcached", "/compare", "/experiments")
INTERACTIVE_SECONDS = 2.0
VISITS = 10
AT_REST = 0.10
"""Of a core, with five models and a page open."""
AT_REST_SECONDS = 10.0
WITHIN_SECONDS = 30_000
"""Of the browser, in ms: a load takes a while to start on two busy cores."""
UNNAMED = re.compile(r"^\s*- (?:button|link|textbox|spinbutton|combobox|switch|checkbox)(?![^\n]*\")", re.MULTILINE)


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    require_tool("chromium")
    made = console.start(tmp_path_factory.mktemp("console"))
    yield made
    console.end(made)


@pytest.fixture
def visit(lab, browser):
    """Open a page in a browser that has seen nothing yet; the log must have no errors at the end."""
    opened, said, asked = [], [], []

    def open_page(path="/", width=1400, height=900, **options):
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        opened.append(context)
        page = context.new_page()
        page.set_default_timeout(WITHIN_SECONDS)
        page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(lab.url + path)
        return page

    yield open_page
    for context in opened:
        context.close()
    assert said == []
    # No font, script or picture of anybody else: it works without the internet.
    assert {url for url in asked if not url.startswith((lab.url, lab.url.replace("http", "ws"), "data:"))} == set()


def keep(page, name):
    PICTURES.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=PICTURES / f"console-{name}.png", full_page=True)


def wait_for_figures(page, count=5):
    page.wait_for_function(f"document.querySelectorAll('.model:not(.waiting)').length === {count}")


def contention():
    """How many times longer a computation takes than it would on a core of its own."""
    began, own = time.monotonic(), time.thread_time()
    while time.thread_time() - own < 0.2:
        hashlib.sha256(bytes(100_000)).digest()
    return (time.monotonic() - began) / (time.thread_time() - own)


def try_it(page):
    """The drawer of controls, open."""
    page.get_by_role("button", name="Try it").click()
    drawer = page.get_by_role("group", name="Try it", exact=True)
    drawer.get_by_role("button", name="Start").wait_for()
    return drawer


@pytest.mark.quiet
def test_page_is_interactive_within_two_seconds(visit, lab):
    def open_and_wait():
        began = time.monotonic()
        page = visit("/")
        wait_for_figures(page)
        page.get_by_role("button", name="Try it").click(trial=True)
        taken = time.monotonic() - began
        try_it(page)
        page.context.close()  # an open page is drawn anew four times a second
        return taken

    # On a core of its own, and the best of a few: what else this machine or its host does is not the page's.
    found, shares = [], [contention()]
    while not found or (found[-1] >= INTERACTIVE_SECONDS and len(found) < VISITS):
        taken = open_and_wait()
        shares.append(contention())
        found.append(taken / min(shares[-2:]))
    assert min(found) < INTERACTIVE_SECONDS, (found, shares)


def test_overflow_is_red_and_told_and_over_when_the_load_is(visit):
    page = visit("/model/nodejs")
    drawer = try_it(page)
    drawer.get_by_role("button", name="Fill the accept queue").click()
    command = "lab load nodejs --users 400 --rate 400 --seconds 30 --kind work -- --think 0 --block 1000ms --cpu 0ms --no-keep-alive"
    drawer.get_by_text(command).wait_for()
    drawer.get_by_role("button", name="Start").click()
    queue = page.locator(".wide [data-part=nodejs-accept-0]")
    page.locator(".wide [data-part=nodejs-accept-0].bad").wait_for()
    assert re.fullmatch(r"12[89] / 128", queue.text_content())
    page.get_by_text(re.compile("accept queue overflows")).first.wait_for()
    page.wait_for_function("document.querySelector('.wide [data-part=nodejs-drops]').textContent.includes('dropped')")
    page.wait_for_function(
        "document.querySelector('#announce').textContent.includes('nodejs: its accept queue overflows')"
    )
    red = queue.locator(".box").evaluate("box => getComputedStyle(box).stroke")
    assert red == page.evaluate(
        "(() => { const p = document.createElement('i'); p.style.color = 'var(--bad)'; document.body.append(p); return getComputedStyle(p).color; })()"
    )
    keep(page, "overflow")
    drawer.get_by_role("button", name="Stop").click()
    drawer.get_by_text("stopped").wait_for()
    page.wait_for_function("!document.querySelector('.wide [data-part=nodejs-accept-0]').classList.contains('bad')")


def test_workers_and_dots_move_under_load_on_the_drawing_and_the_charts(visit):
    page = visit("/model/memcached")
    drawer = try_it(page)
    drawer.get_by_role("button", name="Steady").click()
    drawer.get_by_role("button", name="Start").click()
    page.locator(".wide [data-flow=memcached-worker-0][data-speed]").first.wait_for(state="attached")
    page.wait_for_function(
        "/^[1-9]/.test(document.querySelector('.wide [data-part=memcached-worker-0] text:last-child').textContent)"
    )
    page.locator("[data-stage=service]:not([hidden])").wait_for()
    keep(page, "steady")
    charts = visit("/compare")
    charts.wait_for_function(
        "parseFloat(document.querySelector('[data-cell=\"memcached requests\"]').textContent) > 10"
    )
    charts.wait_for_function("parseFloat(document.querySelector('[data-cell=\"memcached jain\"]').textContent) > 0.5")
    charts.wait_for_function("document.querySelectorAll('[data-series=requests] path.line').length === 5")
    charts.get_by_role("button", name="nginx").click()
    charts.wait_for_function("document.querySelectorAll('[data-series=requests] path.line').length === 4")
    keep(charts, "compare")
    drawer.get_by_role("button", name="Stop").click()
    drawer.get_by_text("stopped").wait_for()
    assert page.locator("[data-stage=service]:not([hidden])").is_visible()


def test_changed_option_is_seen_in_the_drawing(visit, lab):
    page = visit("/model/nginx")
    drawer = try_it(page)
    drawer.get_by_role("spinbutton", name="workers").fill("2")
    drawer.get_by_text("lab set nginx workers=2", exact=True).wait_for()
    drawer.get_by_role("button", name="Apply").click()
    drawer.get_by_text("nginx now runs with workers=2").wait_for()
    page.wait_for_function("document.querySelectorAll('.wide [data-kind=worker]').length === 2")
    assert len(lab.servers["nginx"].state()["workers"]) == 2


def test_model_that_is_down_is_shown_so_and_back_again(visit, lab):
    page = visit("/model/reuseport")
    wait_for_figures(page, 1)
    lab.end_model("reuseport")
    page.get_by_text(re.compile(r"reuseport does not answer \(connection refused\)\. `lab up` starts it")).wait_for()
    drawer = try_it(page)
    drawer.get_by_role("spinbutton", name="workers").fill("3")
    drawer.get_by_role("button", name="Apply").click()
    drawer.get_by_text("reuseport does not run here: `lab up` starts it").wait_for()
    drawer.get_by_role("button", name="Start").click()
    drawer.get_by_text(re.compile("did not run: .*")).wait_for()
    keep(page, "down")
    lab.start_model("reuseport")
    page.wait_for_function("!document.querySelector('.model').classList.contains('down')")
    assert page.locator("[data-problem]").inner_text() == ""
    page.locator("#announce", has_text="reuseport: all is well again").wait_for(state="attached")


@pytest.mark.parametrize("width", [1024, 390])
@pytest.mark.parametrize("path", PAGES)
def test_nothing_is_wider_than_the_screen(visit, path, width):
    page = visit(path, width=width, height=800, color_scheme="dark" if width == 390 else "light")
    page.wait_for_load_state("networkidle") if path == "/experiments" else page.wait_for_timeout(1500)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    if path == "/":
        wait_for_figures(page)
        assert page.locator(".tall" if width == 390 else ".wide").first.is_visible()
        keep(page, f"{width}")


def test_everything_can_be_reached_by_keyboard(visit):
    page = visit("/")
    wait_for_figures(page)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "To the content"
    tab_to(page, "Compare")
    tab_to(page, "Try it")
    page.keyboard.press("Enter")
    page.get_by_role("group", name="Try it", exact=True).get_by_role("button", name="Start").wait_for()
    tab_to(page, "Fill the accept queue")
    page.keyboard.press("Enter")
    page.get_by_text("--users 400", exact=False).wait_for()
    tab_to(page, "Start")
    assert "0px 0px 0px 5px" in page.evaluate("getComputedStyle(document.activeElement).boxShadow")


def tab_to(page, name, most=60):
    """Press Tab, or go back, until what has the focus is called so."""
    for key in ["Tab"] * most + ["Shift+Tab"] * 2 * most:
        page.keyboard.press(key)
        found = page.evaluate("document.activeElement.getAttribute('aria-label') || document.activeElement.textContent")
        if found.strip() == name:
            return
    pytest.fail(f"no Tab leads to {name!r}")


@pytest.mark.parametrize("path", ["/", "/compare"])
def test_every_control_has_a_name_for_who_does_not_see_it(visit, path):
    page = visit(path)
    try_it(page)
    tree = page.locator("body").aria_snapshot()
    assert "How nginx serves connections" in tree or path != "/"
    assert UNNAMED.findall(tree) == [], tree


CONTRAST = """
() => {
  document.head.insertAdjacentHTML('beforeend', '<style>* { pointer-events: auto !important; transition: none !important }</style>');
  const parts = colour => (colour.match(/[\\d.]+/g) || []).map(Number);
  const alpha = colour => colour === 'none' ? 0 : parts(colour)[3] ?? 1;
  const channel = value => value <= 0.03928 * 255 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4;
  const luminance = ([red, green, blue]) => 0.2126 * channel(red) + 0.7152 * channel(green) + 0.0722 * channel(blue);
  const drawn = element => element instanceof SVGElement && !(element instanceof SVGSVGElement);
  const paint = element => {
    const style = getComputedStyle(element);
    return drawn(element) ? (element.tagName === 'text' || element.tagName === 'path' ? 'none' : style.fill) : style.backgroundColor;
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || element.closest('script, style, .sr-only, .skip, [disabled], .disabled')) continue;
    const range = document.createRange();
    range.selectNodeContents(walker.currentNode);
    const box = range.getBoundingClientRect();
    const stack = document.elementsFromPoint(box.x + box.width / 2, box.y + box.height / 2);
    if (!box.width || !box.height || !stack.includes(element)) continue;
    const behind = stack.slice(stack.indexOf(element)).find(one => alpha(paint(one)) === 1 && getComputedStyle(one).opacity === '1');
    const style = getComputedStyle(element), colour = drawn(element) ? style.fill : style.color;
    const [lighter, darker] = [colour, behind ? paint(behind) : 'rgb(255, 255, 255)'].map(one => luminance(parts(one))).sort((a, b) => b - a);
    const ratio = (lighter + 0.05) / (darker + 0.05), size = parseFloat(style.fontSize);
    const large = size >= 24 || size >= 18.66 && style.fontWeight >= 700;
    found.push({ text: walker.currentNode.textContent.trim().slice(0, 40), ratio, least: large ? 3 : 4.5, colour, behind: behind && paint(behind) });
  }
  return found;
}
"""
"""Every text that can be seen, with how much it differs from what is painted behind it: WCAG 2, 1.4.3 (AA)."""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("path", PAGES)
def test_text_can_be_told_from_what_is_behind_it(visit, path, scheme):
    page = visit(path, height=4000, color_scheme=scheme)
    if path == "/experiments":
        page.get_by_text("Which of them gets the next one?").click()
    else:
        wait_for_figures(page, 1 if path.startswith("/model/") else 5 if path == "/" else 0)
        try_it(page)
    page.wait_for_timeout(1500)
    found = page.evaluate(CONTRAST)
    keep(page, f"contrast-{scheme}-{path.strip('/').replace('/', '-') or 'x-ray'}")
    assert len(found) > 20
    assert [one for one in found if one["ratio"] < one["least"]] == []


def test_page_stands_still_for_who_asked_for_less_motion(visit):
    def animation(page):
        wait_for_figures(page)
        return page.evaluate(
            "(() => { const way = document.querySelector('.flow'); way.dataset.speed = 3; return getComputedStyle(way).animationName; })()"
        )

    assert animation(visit("/")) == "flow"
    assert animation(visit("/", reduced_motion="reduce")) == "none"


@pytest.mark.quiet
def test_experiment_is_predicted_and_run_and_reported(visit):
    page = visit("/experiments")
    page.get_by_text("Who completes the handshake, and when?").click()
    run = page.get_by_role("button", name="Run handshake")
    assert run.is_disabled()
    page.get_by_label("Your prediction").locator("visible=true").fill("the kernel")
    run.click()
    page.get_by_text("You said: the kernel").wait_for()
    page.locator(".verdict:visible").first.wait_for()
    assert page.locator(".explanation code:visible").count() > 0  # its Markdown is no longer Markdown
    assert page.evaluate("document.documentElement.scrollWidth") <= 1400
    page.set_viewport_size({"width": 390, "height": 900})
    page.wait_for_timeout(500)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    keep(page, "experiment-390")
    page.set_viewport_size({"width": 1400, "height": 900})
    page.wait_for_timeout(500)
    keep(page, "experiment")
    with page.context.expect_page() as opened:
        page.get_by_role("link", name="The whole report").locator("visible=true").click()
    opened.value.get_by_role("heading", name="handshake").first.wait_for()
    keep(opened.value, "report")
    with page.context.expect_page() as opened:
        page.get_by_role("link", name="All reports").click()
    opened.value.get_by_role("link", name=re.compile("handshake")).first.wait_for()
    keep(opened.value, "reports")


def test_a_link_from_grafana_opens_the_experiment(visit):
    page = visit("/experiments/stalled-worker", height=500)
    run = page.get_by_role("button", name="Run stalled-worker")
    run.wait_for()
    page.wait_for_function("document.getElementById('stalled-worker').getBoundingClientRect().top < 400")
    assert page.locator(".experiment button[aria-label^=Run]:visible").count() == 1
    assert visit("/experiments/no-such").get_by_text("Say first what you expect").is_visible()


def test_what_is_missing_is_said_and_how_to_get_it(visit):
    page = visit("/")
    page.get_by_text("no Grafana: comes with containers: `make lab-up PLACE=containers`").wait_for()
    assert page.get_by_role("link", name="Grafana").count() == 0


@pytest.mark.parametrize("path", ["/", "/live.json", "/_nicegui_ws/socket.io/?EIO=4&transport=polling"])
def test_other_origins_and_names_are_refused(lab, path):
    for headers in ({"Origin": "http://evil.example"}, {"Host": "evil.example"}, {"Origin": "null"}):
        assert httpx.get(lab.url + path, headers=headers, trust_env=False).status_code == 403, headers
    assert httpx.get(lab.url + path, headers={"Origin": lab.url}, trust_env=False).status_code == 200


@pytest.mark.parametrize(("origin", "status"), [("http://evil.example", b"403"), (None, b"101")])
def test_websocket_of_another_origin_is_refused(lab, origin, status):
    port = lab.ports["LAB_CONSOLE_PORT"]
    handshake = (
        f"GET /_nicegui_ws/socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        f"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: {origin or lab.url}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall(handshake.encode())
        assert client.recv(100).split()[1] == status


def test_page_listens_on_this_machine_only(lab):
    listening = [
        one.laddr.ip for one in psutil.Process(lab.process.pid).net_connections("tcp") if one.status == "LISTEN"
    ]
    assert listening == ["127.0.0.1"]


def test_at_rest_it_takes_less_than_a_tenth_of_a_core(visit, lab):
    page = visit("/")
    wait_for_figures(page)
    page.wait_for_timeout(3000)
    began, cpu = time.monotonic(), lab.cpu_seconds()
    page.wait_for_timeout(AT_REST_SECONDS * 1000)
    share = (lab.cpu_seconds() - cpu) / (time.monotonic() - began)
    assert share < AT_REST, f"{share:.1%}"


def test_load_ends_with_the_page(lab, visit):
    page = visit("/model/ramcloud")
    drawer = try_it(page)
    drawer.get_by_role("button", name="Start").click()
    page.locator(".wide [data-flow=ramcloud-worker-0][data-speed]").first.wait_for(state="attached")
    page.goto("about:blank")
    below = children_of(lab.process.pid)
    assert below
    lab.end_page()
    lab.start_page()
    assert [
        pid for pid in below if psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    ] == []
