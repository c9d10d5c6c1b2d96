"""README's pictures, from real runs: `make screenshots`. Look at them before you commit them.

docs/console.png       an accept queue that overflows, on the live page
docs/experiment.png    the page of an experiment's run
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from support import console
from support.tools import require_tool

from lab import results, settings

if TYPE_CHECKING:
    from playwright.sync_api import Browser

DOCS = settings.CHECKOUT / "docs"
EXPERIMENT = "event-loop-blocking"
WAIT_MILLISECONDS = 60_000
LIKE_A_LAPTOP = {"viewport": {"width": 1400, "height": 900}, "device_scale_factor": 1}


def overflow(browser: Browser, lab: console.Lab) -> None:
    """One loop, more connections than its queue has room for."""
    page = browser.new_context(**LIKE_A_LAPTOP).new_page()
    page.set_default_timeout(WAIT_MILLISECONDS)
    page.goto(f"{lab.url}/model/nodejs")
    page.get_by_role("button", name="Try it").click()
    page.get_by_role("button", name="Fill the accept queue").click()
    page.get_by_role("button", name="Start").click()
    page.locator(".wide [data-part=nodejs-accept-0].bad").wait_for()
    page.wait_for_timeout(3000)  # the dots are on their way, and the stages below have figures
    page.screenshot(path=DOCS / "console.png")


def report(browser: Browser) -> None:
    """What a run leaves: claims beside what was measured, and the distributions."""
    subprocess.run([sys.executable, "-m", "lab", "run", EXPERIMENT, "--quick"], check=False, cwd=settings.CHECKOUT)
    page = browser.new_context(**LIKE_A_LAPTOP).new_page()
    page.goto(results.named(EXPERIMENT).page.as_uri())
    page.screenshot(path=DOCS / "experiment.png")


def main() -> None:
    """Take all of them."""
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        # Its sandbox does not work for root; what it opens is ours alone.
        browser = playwright.chromium.launch(executable_path=require_tool("chromium"), args=["--no-sandbox"])
        lab = console.start(Path(folder))
        try:
            overflow(browser, lab)
        finally:
            console.end(lab)
        report(browser)
        browser.close()


if __name__ == "__main__":
    main()
