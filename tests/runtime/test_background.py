"""A loop whose call never comes back does not stand for ever as if all were well."""

from threading import Event
from types import SimpleNamespace
from typing import Any

import pytest

from orderstream.contract.errors import Unavailable
from orderstream.runtime import background
from orderstream.runtime.background import Background
from orderstream.runtime.clock import monotonic
from tests.waiting import until


class StuckLoop:
    """A loop in a call that comes back only when the test is over."""

    def __init__(self) -> None:
        self.beat = monotonic()
        self.patience_s = 0.2
        self.over = Event()

    def run(self) -> None:
        self.over.wait(30)

    def stop(self) -> None: ...
    def close(self) -> None: ...


def running(loop: Any, **options: Any) -> Background:
    found = Background(lambda: None, lambda: loop, **options)
    found.start()
    return found


class TestACallThatDoesNotComeBack:
    def test_ends_the_process(self, capfd: pytest.CaptureFixture[str]) -> None:
        loop, codes = StuckLoop(), list[int]()
        service = running(loop, look_every_s=0.02, give_up=codes.append)
        until(lambda: codes, what="it gives up")
        assert codes == [1]
        assert "test_background.py" in capfd.readouterr().err  # Where it hangs.
        loop.over.set()
        service.stop()

    def test_is_said_before_that(self, monkeypatch: pytest.MonkeyPatch) -> None:
        loop = StuckLoop()
        service = running(loop)
        until(lambda: service._loop is not None)  # pyright: ignore[reportPrivateUsage]
        service.check()
        monkeypatch.setattr(background, "monotonic", lambda: loop.beat + 16)
        with pytest.raises(Unavailable, match="has not come back for 16 s"):
            service.check()
        loop.over.set()
        service.stop()


class TestALoopThatGetsOn:
    def test_is_left_alone(self) -> None:
        codes = list[int]()
        beating = SimpleNamespace(beat=0.0, patience_s=1.0, stop=lambda: None, close=lambda: None)
        over = Event()

        def run() -> None:
            while not over.wait(0.01):
                beating.beat = monotonic()

        beating.run = run
        beating.beat = monotonic()
        service = running(beating, look_every_s=0.02, give_up=codes.append)
        assert not over.wait(1.5)
        over.set()
        service.stop()
        assert codes == []
