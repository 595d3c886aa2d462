"""Waits for facts, never for time to pass."""

import time
from collections.abc import Callable, Sequence
from threading import Barrier, Thread
from typing import TypeVar

T = TypeVar("T")

EVERY_S = 0.01


def until(look: Callable[[], T | None], within_s: float = 60.0, what: str = "") -> T:
    """Return what `look` finds once it finds something; AssertionError when time is up."""
    deadline = time.monotonic() + within_s
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < deadline, f"not within {within_s} s: {what or found!r}"
        time.sleep(EVERY_S)


def together(calls: Sequence[Callable[[], T]]) -> list[T | BaseException]:
    """Make all calls at the same moment, each in its own thread; return answers or exceptions."""
    barrier = Barrier(len(calls))
    answers: list[T | BaseException] = [AssertionError("did not end")] * len(calls)

    def make(number: int) -> None:
        barrier.wait()
        try:
            answers[number] = calls[number]()
        except Exception as error:  # noqa: BLE001 - handed to the test
            answers[number] = error

    threads = [Thread(target=make, args=(number,), daemon=True) for number in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return answers
