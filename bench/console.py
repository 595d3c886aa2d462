"""What the console costs: its page's first load, itself at rest, and a live page beside the load.

The same load runs with the overview open in a Chromium and without, turn about, after once to warm
up. The browser would be elsewhere: here it has the lowest priority. A page's load is timed by the
browser itself, in a context without a cache.
"""

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from bench.harness import (
    Broken,
    Figure,
    Installation,
    folder,
    installation,
    keep,
    rate,
    turn_about,
    verify,
)

ORDERS = 80_000
RUNS = 7
LOADS = 5
REST_S = 30.0

_LOADED = """() => {
    const paint = performance.getEntriesByName("first-contentful-paint")[0];
    const page = performance.getEntriesByType("navigation")[0];
    const parts = performance.getEntriesByType("resource");
    return [paint.startTime, Math.max(page.loadEventEnd, ...parts.map((p) => p.responseEnd))];
}"""


def run() -> list[Figure]:
    """Measure it."""
    with folder() as at, installation(at) as up, chromium() as browser:
        up.wait_until_ready()
        rate(up, ORDERS)
        resting = _resting(up)
        loads = [_load(browser, up) for _ in range(LOADS)]
        without, beside, ratios = turn_about(
            up, ORDERS, RUNS, "console", lambda: _watching(browser, up)
        )
        proof = verify(up.env)
    figures = [
        Figure("console, overview drawn", "ms", "< 1,500", [first for first, _ in loads]),
        Figure("console, everything of it there", "ms", "< 1,500", [last for _, last in loads]),
        Figure("console at rest, of one core", "%", "< 2", [resting]),
        Figure("end to end without a page, 64 connections", "orders/s", "", without),
        Figure("the same beside a live overview", "orders/s", "", beside),
        Figure("their ratio", "x", ">= 0.97", ratios),
    ]
    keep("console", figures, proof)
    return figures


def _resting(up: Installation) -> float:
    (console,) = [
        process
        for process in up.python_processes()
        if process.cmdline()[-2:] == ["serve", "console"]
    ]
    before = sum(console.cpu_times()[:2])
    time.sleep(REST_S)
    return 100 * (sum(console.cpu_times()[:2]) - before) / REST_S


def _load(browser: Browser, up: Installation) -> tuple[float, float]:
    context = browser.new_context()
    page = context.new_page()
    page.goto(up.address("console"))
    page.get_by_role("heading", level=1).wait_for()
    first, last = page.evaluate(_LOADED)
    context.close()
    return first, last


@contextmanager
def _watching(browser: Browser, up: Installation) -> Iterator[None]:
    page = browser.new_page(base_url=up.address("console"))
    page.goto("/")
    page.locator(".figure").first.wait_for()
    yield
    page.close()


@contextmanager
def chromium() -> Iterator[Browser]:
    """Give a Chromium whose every process has the lowest priority."""
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        raise Broken("there is no Chromium: `apt-get install chromium` (as root) brings it")
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as at:
        behind = Path(at) / "chromium"
        behind.write_text(f'#!/bin/sh\nexec chrt --idle 0 {path} "$@"\n')
        behind.chmod(0o755)
        browser = playwright.chromium.launch(executable_path=behind, args=["--no-sandbox"])
        yield browser
        browser.close()
