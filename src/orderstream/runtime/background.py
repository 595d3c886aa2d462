"""The thread beside a service's web app: sets up what the service needs, then runs its loop."""

import threading
from collections.abc import Callable

import structlog

from orderstream.contract.errors import Fenced, Unavailable
from orderstream.runtime.loop import Loop

AGAIN_S = 0.5
STOP_TIMEOUT_S = 5.0

log = structlog.get_logger("orderstream.service")


class Background:
    """Calls `prepare` until it succeeds, then runs the loop that `make_loop` returns.

    The web app is up meanwhile, and says through `check` why the service is not ready.
    """

    def __init__(
        self, prepare: Callable[[], None], make_loop: Callable[[], Loop] | None = None
    ) -> None:
        self._prepare = prepare
        self._make_loop = make_loop
        self._loop: Loop | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="loop", daemon=True)
        self._when_done: Callable[[], None] | None = None
        self._fault: str | None = "starting"
        self.failed = False

    def start(self, when_done: Callable[[], None] | None = None) -> None:
        """Begin; `when_done` is called when the loop has ended, whatever ended it."""
        self._when_done = when_done
        self._thread.start()

    def check(self) -> None:
        """Raise Unavailable until everything is set up, with what is missing."""
        if self._fault is not None:
            raise Unavailable(self._fault)

    def stop(self) -> None:
        """End the loop after the batch in hand, and wait for it."""
        self._stopping.set()
        if self._loop is not None:
            self._loop.stop()
        self._thread.join(STOP_TIMEOUT_S)
        if self._thread.is_alive():
            log.warning("stopped in the middle of a batch; it will be taken again")

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                try:
                    self._prepare()
                    break
                except Unavailable as error:
                    self._fault = str(error)
                    log.warning("waiting", reason=str(error))
                    self._stopping.wait(AGAIN_S)
            self._fault = None
            if self._make_loop is None or self._stopping.is_set():
                return
            self._loop = self._make_loop()
            if not self._stopping.is_set():
                self._loop.run()
            self._loop.close()
        except Fenced as error:
            self.failed = True
            log.critical("another incarnation took over, stopping", reason=str(error))
        except BaseException:
            self.failed = True
            log.critical("the loop failed, stopping", exc_info=True)
            raise
        finally:
            if self._when_done is not None:
                self._when_done()
