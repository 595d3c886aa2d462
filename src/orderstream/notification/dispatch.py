"""Sends what was intended: each channel by itself, so that a slow one holds up no other.

A message is taken for a while (the lease), sent, and what came of it is written down. Who dies in
between leaves it SENDING: who is started in their place, or another when the lease is over, takes
it, counts it as doubtful, and sends it again under the same id. So none is missing, and one is sent
twice only where nobody could know.
"""

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue

import structlog
from msgspec import structs
from prometheus_client import Counter
from structlog.typing import FilteringBoundLogger

from orderstream.contract.errors import OutcomeUnknown, Unavailable
from orderstream.notification.channels import Channel
from orderstream.notification.ids import message_id
from orderstream.notification.rules import (
    NotSent,
    Result,
    Skipped,
    State,
    Verdict,
    pause_s,
    verdict,
)
from orderstream.notification.store import Intent, NoticeStore
from orderstream.runtime.clock import monotonic

LOOK_EVERY_S = 0.25
LOOK_AT_SILENCED_S = 2.0
LEASE_S = 900.0  # Renewed by who lives: it is for those whose place nobody takes.
RENEW_EVERY_S = 120.0
STOP_TIMEOUT_S = 5.0

log: FilteringBoundLogger = structlog.get_logger("orderstream.notify")
_sent = Counter(
    "orderstream_notices",
    "Messages by channel and what came of the try: sent, skipped, failed, again, unknown",
    ["channel", "outcome"],
)


class Dispatcher:
    """Sends the messages of some channels until stopped; `at_once` and `rate` are per channel."""

    def __init__(
        self,
        store: NoticeStore,
        channels: Sequence[Channel],
        waits_s: Sequence[float],
        *,
        at_once: int,
        rate: float | None = None,
        worker: int = 0,
    ) -> None:
        self._store = store
        self._lanes = [
            _Lane(store, channel, waits_s, at_once, rate, worker) for channel in channels
        ]

    def start(self) -> None:
        """Begin, in threads of its own; again, it does nothing more. Raises Unavailable.

        What waits for a channel that is none of these is given up.
        """
        if count := self._store.abandon([lane.name for lane in self._lanes]):
            log.warning("messages given up: their channels are not in the settings", count=count)
        for lane in self._lanes:
            lane.start()

    def ask_to_stop(self) -> None:
        """Have every channel take no more."""
        for lane in self._lanes:
            lane.ask_to_stop()

    def stop(self) -> None:
        """Take no more, and wait a little for what is under way; the rest is sent again later."""
        self.ask_to_stop()
        deadline = monotonic() + STOP_TIMEOUT_S
        for lane in self._lanes:
            lane.join(max(deadline - monotonic(), 0.0))

    def check(self) -> None:
        """Raise Unavailable naming each channel that does not get on, and why."""
        faults = [f"{lane.name}: {lane.fault}" for lane in self._lanes if lane.fault is not None]
        if faults:
            raise Unavailable("; ".join(faults))


class _Lane:
    """One channel's messages."""

    def __init__(
        self,
        store: NoticeStore,
        channel: Channel,
        waits_s: Sequence[float],
        at_once: int,
        rate: float | None,
        worker: int,
    ) -> None:
        self.name = channel.name
        self.fault: str | None = None
        self._store = store
        self._channel = channel
        self._waits_s = waits_s
        self._at_once = at_once
        self._every_s = max(channel.every_s, 0.0 if rate is None else 1 / rate)
        self._worker = worker
        self._resumed = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"notify-{self.name}", daemon=True)
        # Daemons, and no executor's: a process that is told to end waits for no mail server.
        self._senders = [
            threading.Thread(target=self._send, name=f"send-{self.name}", daemon=True)
            for _ in range(at_once)
        ]
        self._to_send: SimpleQueue[tuple[Intent, float] | None] = SimpleQueue()
        self._came_back: SimpleQueue[tuple[Intent, float, Result]] = SimpleQueue()
        self._under_way = 0
        self._started = False
        self._settled: list[tuple[Intent, Verdict]] = []  # Not written down yet.
        self._next_at = 0.0
        self._failed_in_a_row = 0
        self._paused_until = float("-inf")
        self._silenced: str | None = None
        self._to_silence: str | None = None
        self._looked_at = float("-inf")
        self._renewed_at = monotonic()
        self._store_fault = False

    def start(self) -> None:
        if not self._started:
            self._started = True
            for thread in (*self._senders, self._thread):
                thread.start()

    def ask_to_stop(self) -> None:
        self._stopping.set()

    def join(self, timeout_s: float) -> None:
        if self._started:
            self._thread.join(timeout_s)
            for _ in self._senders:
                self._to_send.put(None)

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._safely(self._step)
        deadline = monotonic() + STOP_TIMEOUT_S
        while (self._under_way or self._settled) and monotonic() < deadline:
            self._safely(self._collect)

    def _safely(self, do: Callable[[], None]) -> None:
        try:
            do()
        except (Unavailable, OutcomeUnknown) as error:
            # What came back stays in hand; what was claimed unseen is resumed, or its lease ends.
            self.fault, self._store_fault = str(error), True
            log.warning("messages wait for the store", channel=self.name, reason=str(error))
            self._rest()
        except Exception:  # Must not end: nobody else sends this channel's messages here.
            self.fault, self._store_fault = "a fault of ours; it is in the log", True
            log.exception("messages wait", channel=self.name)
            self._rest()
        else:
            if self._store_fault:
                self.fault, self._store_fault = None, False

    def _rest(self) -> None:
        """Leave the store alone for a while, a shorter one where this is to end."""
        if self._stopping.wait(1.0):
            time.sleep(LOOK_EVERY_S)

    def _step(self) -> None:
        self._look_after_leases()
        self._collect()
        room = self._room()
        if not room:
            if not self._under_way:
                self._stopping.wait(min(max(self._next_at - monotonic(), 0.01), LOOK_EVERY_S))
            return
        self._look_whether_silenced()
        taken = self._store.claim(self.name, room, LEASE_S, self._worker)
        if not taken and not self._under_way:
            self._stopping.wait(LOOK_EVERY_S)
        for intent in taken:
            if (why := self._unwanted(intent)) is not None:
                self._came(intent, monotonic(), why)
                continue
            self._under_way += 1
            self._to_send.put((intent, monotonic()))
            self._next_at = max(self._next_at, monotonic()) + self._every_s

    def _look_after_leases(self) -> None:
        if not self._resumed:
            if left := self._store.resume(self.name, self._worker):
                log.info("taking up what was in hand before", channel=self.name, count=left)
            self._resumed = True
        if self._under_way and monotonic() - self._renewed_at > RENEW_EVERY_S:
            self._store.renew(self.name, LEASE_S, self._worker)
            self._renewed_at = monotonic()

    def _look_whether_silenced(self) -> None:
        if monotonic() - self._looked_at > LOOK_AT_SILENCED_S:
            self._silenced = self._store.silenced().get(self.name)
            self._looked_at = monotonic()

    def _room(self) -> int:
        """Return how many may be taken now."""
        if self._next_at > monotonic():
            return 0
        room = self._at_once - self._under_way
        return min(room, 1) if self._every_s else room

    def _unwanted(self, intent: Intent) -> Result | None:
        """Return why a message is not to be sent, if it is not."""
        if self._silenced is not None:
            return NotSent(why=f"the channel is silenced: {self._silenced}", final=True)
        if self._channel.personal and intent.opted_out:
            return Skipped("the customer opted out")
        return None

    def _collect(self) -> None:
        """Wait a little for those under way, and write down what came of them."""
        wait_s = LOOK_EVERY_S
        if self._under_way < self._at_once and self._every_s:  # The next may be due before that.
            wait_s = min(max(self._next_at - monotonic(), 0.0), wait_s)
        with suppress(Empty):
            while self._under_way:
                intent, began, result = self._came_back.get(timeout=wait_s)
                self._under_way -= 1
                self._came(intent, began, result)
                wait_s = 0.0  # Who else is back already.
        if self._to_silence is not None:
            self._store.silence(self.name, self._to_silence)
            self._to_silence = None
        if self._settled:
            self._settle()

    def _settle(self) -> None:
        try:
            self._store.settle(self._settled)
        except (Unavailable, OutcomeUnknown):
            raise
        except Exception:  # One of them cannot be written: the others must be.
            log.exception("what became of messages is written one by one", channel=self.name)
            while self._settled:
                intent, found = self._settled[0]
                self._store.settle([(intent, structs.replace(found, why="it cannot be told"))])
                del self._settled[0]
        self._settled.clear()

    def _send(self) -> None:
        while (given := self._to_send.get()) is not None:
            intent, began = given
            try:
                result = self._channel.send(intent)
            except Exception as error:  # noqa: BLE001 - told without what it may say of whom
                log.error("a channel raised", channel=self.name, kind=type(error).__name__)
                result = NotSent(why=f"a fault of ours: {type(error).__name__}", unknown=True)
            self._came_back.put((intent, began, result))
        self._channel.let_go()

    def _came(self, intent: Intent, began: float, result: Result) -> None:
        """Take note of what came of a message that was handed over then.

        What a server said may have the customer's address in it: it is kept with the message, and
        neither logged nor shown as the channel's health.
        """
        name = message_id(intent.event_id, self.name)
        found = verdict(result, name, intent.tries, self._waits_s)
        self._settled.append((intent, found))
        self._count(found)
        if not isinstance(result, NotSent):
            self._failed_in_a_row = 0
            self.fault = None
            return
        event = "message given up" if found.state is State.FAILED else "message not sent"
        more = {"outcome": "unknown"} if found.unknown else {}
        if (context := intent.message.traceparent) is not None:
            more["trace_id"] = context[3:35]
        log.warning(
            event,
            channel=self.name,
            order_id=str(intent.message.order_id),
            event_id=intent.event_id,
            tries=intent.tries,
            **more,
        )
        if result.gone:
            self._silenced = self._to_silence = result.why
        if result.busy or result.gone:
            self.fault = "it does not get on: `orderstream notify list` says why"
        if result.busy:
            # Those that were under way together are one failure.
            self._failed_in_a_row += began >= self._paused_until
            now = monotonic()
            rest_s = pause_s(result, max(self._failed_in_a_row, 1))
            self._paused_until = max(self._paused_until, now + rest_s)
            self._next_at = max(self._next_at, self._paused_until)

    def _count(self, found: Verdict) -> None:
        outcome = found.state.value.lower() if found.state is not State.PENDING else "again"
        _sent.labels(self.name, "unknown" if found.unknown else outcome).inc()
