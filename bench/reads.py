"""How long the order table takes with 10 million orders kept: over HTTP, and drawn in a Chromium.

The history is that of growth.py, of which this is the part about reading. A page is timed from its
first byte asked for to its first row drawn, by a browser without a cache. `KEPT=1000000` for fewer.
"""

from playwright.sync_api import Browser

from bench.console import chromium
from bench.growth import KEPT_MAX, grow, keep_proved, reads
from bench.harness import Figure, Installation, folder, installation, load, say

ORDERS = 20_000
LOADS = 9
_PAGES = {
    "newest": "",
    "a status": "?status=REJECTED",
    "a user": "?userId=4711",
    "a rare SKU": "?sku=HIST-RARE",
    "a day": "?from=2026-06-01T00:00&to=2026-06-02T00:00",
    "oldest first": "?sort=created",
    "a user, slowest first": "?userId=4711&sort=-took",
}


def run() -> list[Figure]:
    """Measure it."""
    with folder() as at, installation(at) as up, chromium() as browser:
        up.wait_until_ready()
        load(up, "--orders", str(ORDERS), "--connections", "64", "--until-decided")
        grow(up, 0, KEPT_MAX)
        figures = reads(up, KEPT_MAX)
        for name, query in _PAGES.items():
            drawn = [_drawn(browser, up, query) for _ in range(LOADS)]
            say(f"reads: orders, {name}: drawn after {min(drawn):,.0f} to {max(drawn):,.0f} ms")
            figures.append(Figure(f"console, orders, {name}: drawn", "ms", "< 1,500", drawn))
        keep_proved("reads", up, figures)
    return figures


def _drawn(browser: Browser, up: Installation, query: str) -> float:
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"{up.address('console')}/#/orders{query}")
    page.get_by_role("group", name="orders").locator("tbody td a").first.wait_for()
    ms: float = page.evaluate("performance.now()")
    context.close()
    return ms
