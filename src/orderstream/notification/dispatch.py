"""Sends what was intended: each channel by itself, so that a slow one holds up no other.

A message is taken for a while (the lease), sent, and what came of it is written down. Who dies in
between leaves it SENDING: who is started in their place, or another when the lease is over, takes
it, counts it as doubtful, and sends it again under the same id. So none is missing, and one is sent
twice only where nobody could know.
"""

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue

import structlog
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
LEASE_S = 120.0  # Much longer than what is taken at once can take: twice, at 15 s for each step.
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
        self._lanes = [
            _Lane(store, channel, waits_s, at_once, rate, worker) for channel in channels
        ]

    def start(self) -> None:
        """Begin, in threads of its own."""
        for lane in self._lanes:
            lane.start()

    def stop(self) -> None:
        """Take no more, and wait a little for what is under way; the rest is sent again later."""
        for lane in self._lanes:
            lane.ask_to_stop()
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
        self._to_send: SimpleQueue[Intent | None] = SimpleQueue()
        self._came_back: SimpleQueue[tuple[Intent, Result]] = SimpleQueue()
        self._under_way = 0
        self._settled: list[tuple[Intent, Verdict]] = []  # Not written down yet.
        self._next_at = 0.0
        self._failed_in_a_row = 0
        self._silenced: str | None = None
        self._looked_at = float("-inf")

    def start(self) -> None:
        for thread in (*self._senders, self._thread):
            thread.start()

    def ask_to_stop(self) -> None:
        self._stopping.set()

    def join(self, timeout_s: float) -> None:
        self._thread.join(timeout_s)
        for _ in self._senders:
            self._to_send.put(None)
        self._channel.close()

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
            # What was sent stays in hand; what was claimed unseen is claimed again after its lease.
            self.fault = str(error)
            log.warning("messages wait for the store", channel=self.name, reason=str(error))
            self._stopping.wait(1.0)
        except Exception:  # Must not end: nobody else sends this channel's messages here.
            self.fault = "a fault of ours; it is in the log"
            log.exception("messages wait", channel=self.name)
            self._stopping.wait(1.0)

    def _step(self) -> None:
        if not self._resumed:
            if left := self._store.resume(self.name, self._worker):
                log.info("taking up what was in hand before", channel=self.name, count=left)
            self._resumed = True
        self._collect()
        room = self._room()
        if not room:
            self._stopping.wait(min(max(self._next_at - monotonic(), 0.01), LOOK_EVERY_S))
            return
        taken = self._store.claim(self.name, room, LEASE_S, self._worker)
        if not taken:
            if not self._under_way:
                self._stopping.wait(LOOK_EVERY_S)
            return
        unwanted = self._unwanted(taken)
        for intent in taken:
            if (why := unwanted.get(intent.event_id)) is not None:
                self._came(intent, why)
                continue
            self._under_way += 1
            self._to_send.put(intent)
            self._next_at = max(self._next_at, monotonic()) + self._every_s

    def _room(self) -> int:
        """Return how many may be taken now."""
        if self._next_at > monotonic():
            return 0
        room = self._at_once - self._under_way
        return min(room, 1) if self._every_s else room

    def _unwanted(self, taken: Sequence[Intent]) -> dict[str, Result]:
        """Return which are not to be sent, and why."""
        if monotonic() - self._looked_at > LOOK_AT_SILENCED_S:
            self._looked_at = monotonic()
            self._silenced = self._store.silenced().get(self.name)
        if self._silenced is not None:
            why = NotSent(why=f"the channel is silenced: {self._silenced}", final=True)
            return {intent.event_id: why for intent in taken}
        if not self._channel.personal:
            return {}
        out = self._store.opted_out({i.user_id for i in taken if i.user_id is not None})
        return {i.event_id: Skipped("the customer opted out") for i in taken if i.user_id in out}

    def _collect(self) -> None:
        """Wait a little for those under way, and write down what came of them."""
        wait_s = LOOK_EVERY_S
        with suppress(Empty):
            while self._under_way:
                intent, result = self._came_back.get(timeout=wait_s)
                self._under_way -= 1
                self._came(intent, result)
                wait_s = 0.0  # Who else is back already.
        if self._settled:
            self._store.settle(self._settled)
            self._settled.clear()

    def _send(self) -> None:
        while (intent := self._to_send.get()) is not None:
            try:
                result = self._channel.send(intent)
            except Exception as error:
                log.exception("a channel raised", channel=self.name)
                result = NotSent(why=f"a fault of ours: {type(error).__name__}", unknown=True)
            self._came_back.put((intent, result))

    def _came(self, intent: Intent, result: Result) -> None:
        name = message_id(intent.event_id, self.name)
        found = verdict(result, name, intent.tries, self._waits_s)
        self._settled.append((intent, found))
        self._count(found)
        if not isinstance(result, NotSent):
            self._failed_in_a_row = 0
            self.fault = None
            return
        self.fault = result.why
        event = "message given up" if found.state is State.FAILED else "message not sent"
        log.warning(
            event, channel=self.name, event_id=intent.event_id, tries=intent.tries, why=result.why
        )
        if result.gone:
            self._silenced = result.why
            self._store.silence(self.name, result.why)
        self._failed_in_a_row += result.busy
        rest_s = pause_s(result, self._failed_in_a_row)
        self._next_at = max(self._next_at, monotonic() + rest_s)

    def _count(self, found: Verdict) -> None:
        outcome = found.state.value.lower() if found.state is not State.PENDING else "again"
        _sent.labels(self.name, "unknown" if found.unknown else outcome).inc()
