"""The thread beside a service's web app: sets up what the service needs, then runs its loop.

Every call that the loop makes has a time limit of its own. Should one outlast it nevertheless (a
client library that never comes back, as librdkafka may after a fatal error), a watchdog ends the
process: a crash is safe at any point, and the supervisor starts it again.
"""

import faulthandler
import os
import sys
import threading
from collections.abc import Callable

import structlog

from orderstream.contract.errors import ConfigurationError, Fenced, Unavailable
from orderstream.runtime.clock import monotonic
from orderstream.runtime.loop import Loop

AGAIN_S = 0.5
STOP_TIMEOUT_S = 5.0
SLOW_S = 15.0
LOOK_EVERY_S = 2.0

log = structlog.get_logger("orderstream.service")


class Background:
    """Calls `prepare` and `make_loop` until they succeed, then runs the loop.

    The web app is up meanwhile, and says through `check` why the service is not ready.
    """

    def __init__(
        self,
        prepare: Callable[[], None],
        make_loop: Callable[[], Loop] | None = None,
        *,
        look_every_s: float = LOOK_EVERY_S,
        give_up: Callable[[int], object] = os._exit,
    ) -> None:
        self._prepare = prepare
        self._make_loop = make_loop
        self._look_every_s = look_every_s
        self._give_up = give_up
        self._loop: Loop | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="loop", daemon=True)
        self._when_done: Callable[[], None] | None = None
        self._fault: str | None = "starting"
        self.failed = False

    def start(self, when_done: Callable[[], None] | None = None) -> None:
        """Begin; `when_done` is called when the loop has ended, whatever ended it.

        Without a loop that is when all is prepared.
        """
        self._when_done = when_done
        self._thread.start()
        if self._make_loop is not None:
            threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def check(self) -> None:
        """Raise Unavailable until everything is set up, with what is missing."""
        if self._fault is not None:
            raise Unavailable(self._fault)
        if self._loop is not None and (silent_s := monotonic() - self._loop.beat) > SLOW_S:
            raise Unavailable(f"a call has not come back for {silent_s:.0f} s")

    def stop(self) -> None:
        """End the loop after the batch in hand, and wait for it."""
        self._stopping.set()
        if self._loop is not None:
            self._loop.stop()
        self._thread.join(STOP_TIMEOUT_S)
        if self._thread.is_alive():
            log.warning("stopped in the middle of a batch; it will be taken again")

    def _watch(self) -> None:
        while not self._stopping.wait(self._look_every_s):
            if self._loop is None or monotonic() - self._loop.beat < self._loop.patience_s:
                continue
            log.critical("a call does not come back, ending to be started again")
            faulthandler.dump_traceback(sys.__stderr__ or 2)
            self._give_up(1)
            return

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                try:
                    self._prepare()
                    if self._make_loop is not None:
                        self._loop = self._make_loop()
                    break
                except Unavailable as error:
                    self._fault = str(error)
                    log.warning("waiting", reason=str(error))
                    self._stopping.wait(AGAIN_S)
            self._fault = None
            if self._loop is None:
                return
            if not self._stopping.is_set():
                self._loop.run()
            self._loop.close()
        except Fenced as error:
            self.failed = True
            log.critical("another incarnation took over, stopping", reason=str(error))
        except ConfigurationError as error:
            self.failed = True
            log.critical("cannot run as it is, stopping", reason=str(error))
        except BaseException:
            self.failed = True
            log.critical("the loop failed, stopping", exc_info=True)
            raise
        finally:
            if self._when_done is not None:
                self._when_done()
