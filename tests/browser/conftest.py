"""A Chromium, an installation to look at, and pages whose every fault fails the test."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests.flow.installation import Installation, installation
from tests.programs import one_of

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
WITHIN_MS = 15_000  # A busy machine is slow; what comes sooner is not waited for.
expect.set_options(timeout=WITHIN_MS)

WIDE, NARROW = {"width": 1280, "height": 800}, {"width": 390, "height": 844}


def chromium() -> str:
    """Return where it is, installed if we may; skip without it, or fail in CI."""
    return one_of(NAMES, "chromium", "--install-recommends")  # Fonts, among others.


@pytest.fixture(scope="module")  # While it lives, an event loop runs in this thread.
def browser() -> Iterator[Browser]:
    path = chromium()
    with sync_playwright() as playwright:
        # As root it has no sandbox, and /dev/shm may be small.
        browser = playwright.chromium.launch(
            executable_path=path, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def house() -> Iterator[Installation]:
    """An installation that all tests of a file share."""
    with installation("--quiet", ORDERSTREAM_RETRY_BACKOFF="0.1") as running:
        yield running


Open = Callable[..., Page]


class Watched:
    """A page's faults: what it wrote to the console, and requests that failed."""

    def __init__(self, page: Page, expected: Callable[[str], bool]) -> None:
        self.faults: list[str] = []
        self._expected = expected
        page.on("console", lambda m: self._add(f"{m.type}: {m.text}") if _bad(m.type) else None)
        page.on("pageerror", lambda error: self._add(f"error: {error}"))
        page.on("response", lambda r: self._add(f"{r.status} {r.url}") if r.status >= 400 else None)
        page.on("requestfailed", lambda r: self._failed(r.url, r.failure or ""))

    def _failed(self, url: str, failure: str) -> None:
        if "ERR_ABORTED" not in failure:  # A page that was left gives up what it asked for.
            self._add(f"failed {url}: {failure}")

    def _add(self, fault: str) -> None:
        if not self._expected(fault):
            self.faults.append(fault)


def _bad(kind: str) -> bool:
    return kind in ("error", "warning")


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Open]:
    """Opens pages of a context of its own; any fault that was not expected fails the test."""
    contexts: list[BrowserContext] = []
    watched: list[Watched] = []

    def opened(
        base_url: str,
        viewport: dict[str, int] = WIDE,
        expected: Callable[[str], bool] = lambda _: False,
        **options: Any,
    ) -> Page:
        context = browser.new_context(base_url=base_url, viewport=viewport, **options)  # pyright: ignore[reportArgumentType]
        context.set_default_timeout(WITHIN_MS)
        contexts.append(context)
        page = context.new_page()
        watched.append(Watched(page, expected))
        return page

    yield opened
    for context in contexts:
        context.close()
    assert [fault for one in watched for fault in one.faults] == []
