"""The one exactly-once loop (design.md section 2).

For each batch: one store transaction, then one Kafka transaction with the outputs and the input's
offsets. A crash between the two brings the batch again; its handler finds what it decided and
says the same again, so nothing is lost and nothing is published twice. For a handler without such
a memory the loop has one (said.py). A stage that keeps its offsets in the store needs no Kafka
transaction: rows and offsets are committed together.

What goes wrong is one of four things, and each has one answer:
    the record's own fault   split the batch until it is alone; another try later, or dead letter
    a dependency is away     pause, then take the batch again; nothing goes to the dead letters
    the transaction is gone  rewind to what is committed and go on
    this worker is replaced  stop the process
"""

import threading
from collections.abc import Sequence
from contextlib import nullcontext
from itertools import compress
from typing import Any

import structlog

from orderstream.contract.errors import (
    Fenced,
    Malformed,
    OutcomeUnknown,
    PartitionsGone,
    TransactionAborted,
    Unavailable,
)
from orderstream.runtime.answered import Answered
from orderstream.runtime.broker import Sink, Source
from orderstream.runtime.clock import Clock, from_epoch_ms, monotonic, to_epoch_ms
from orderstream.runtime.database import Database
from orderstream.runtime.failure import (
    Park,
    RetryPolicy,
    after_failure,
    dead_letter_output,
    retry_output,
    tries_before,
    wait_ms,
)
from orderstream.runtime.forgotten import Forgotten
from orderstream.runtime.logs import about
from orderstream.runtime.observe import StageMetrics
from orderstream.runtime.pairing import Pairing
from orderstream.runtime.positions import StoredPositions
from orderstream.runtime.said import Said
from orderstream.runtime.stage import (
    Batch,
    Keeps,
    Output,
    Partition,
    Positions,
    Record,
    Stage,
    positions_after,
)
from orderstream.runtime.tracing import BatchTracer

POLL_WAIT_S = 0.2
PAIR_WAIT_S = 0.05  # While records are kept back, which an empty batch sets free.
FETCH_S = 0.01  # Until a busy broker has answered with what is new.
PAUSE_FIRST_S = 0.1
PAUSE_MAX_S = 2.0
IDLE_IS_WELL = 5
# How long one call may take before it counts as one that never comes back. Kafka's: two of a
# transaction's, with their repeats (broker_kafka.py). The store's: a statement has 30 s.
KAFKA_PATIENCE_S = 28.0
STORE_PATIENCE_S = 45.0
UNTRACED = nullcontext()

log = structlog.get_logger("orderstream.loop")


class Loop:
    """Runs one stage until it is told to stop, or is fenced."""

    def __init__(
        self,
        stage: Stage,
        group: str,
        source: Source,
        sink: Sink,
        database: Database,
        *,
        clock: Clock,
        policy: RetryPolicy,
        dead_letter_suffix: str,
        metrics: StageMetrics,
        records_max: int,
        positions: StoredPositions | None = None,
        answered: Answered | None = None,
        forgotten: Forgotten | None = None,
        said: Said | None = None,
        tracer: BatchTracer | None = None,
    ) -> None:
        self._stage = stage
        self._group = group
        self._source = source
        self._sink = sink
        self._database = database
        self._clock = clock
        self._policy = policy
        self._suffix = dead_letter_suffix
        self._metrics = metrics
        self._records_max = records_max
        self._positions = positions
        self._answered = answered
        self._forgotten = forgotten
        self._said = said
        self._tracer = tracer
        self._home_of = {retry: topic for topic, retry in stage.retries.items()}
        self._pairing = Pairing(stage.pairs) if stage.pairs else None
        self._held: dict[Partition, int] = {}  # Due time (ms) of the first record on hold.
        self._ahead: Positions = {}  # Partitions on hold until what follows them has caught up.
        self._polled_at = 0.0  # When the last batch was there: what came since has waited already.
        self._last = 0  # How many records the last batch had,
        self._busy = 0.0  # and how busy that made the stage, from 0 to 1.
        self._handled = False  # Whether the last step got as far as that with any record.
        self._stopping = threading.Event()
        self.beat = monotonic()  # When the loop last got on from one call to the next,
        self.patience_s = STORE_PATIENCE_S  # and how long that one may take.
        if (positions is None) == (stage.keeps is Keeps.OFFSETS_IN_STORE):
            raise ValueError("stored positions go with Keeps.OFFSETS_IN_STORE, and only with it")
        if said is not None and stage.keeps is Keeps.OFFSETS_IN_STORE:
            raise ValueError("what was said is remembered with Keeps.OFFSETS_IN_KAFKA")

    def stop(self) -> None:
        """Ask the loop to return after the batch in hand; may be called from any thread."""
        self._stopping.set()

    def run(self) -> None:
        """Handle batches until `stop`. Raises Fenced; every other fault is survived."""
        pause_s = 0.0
        recovering = True
        idle = 0  # Empty polls since the last fault: the records at fault may not be back yet.
        while not self._stopping.is_set():
            try:
                if recovering:
                    self.recover()
                    recovering = False
                idle = 0 if self.step() else idle + 1
                if not pause_s or self._handled or idle == IDLE_IS_WELL:
                    pause_s = 0.0
                    self._metrics.running()
                continue
            except PartitionsGone as error:
                log.info("goes on from what is committed", reason=str(error))
                recovering, idle = True, 0
                continue
            except TransactionAborted as error:
                log.warning("transaction rolled back, taking the batch again", reason=str(error))
                self._metrics.aborted()
                if pause_s:  # Once is a rebalance or a timeout; again and again it is a fault.
                    self._metrics.paused(str(error))
                    self._stopping.wait(pause_s)
            except (Unavailable, OutcomeUnknown) as error:
                log.warning("paused until a dependency is back", reason=str(error))
                self._metrics.paused(str(error))
                self._stopping.wait(max(pause_s, PAUSE_FIRST_S))
            pause_s = min(max(pause_s * 2, PAUSE_FIRST_S), PAUSE_MAX_S)
            recovering = True
            idle = 0

    def close(self) -> None:
        """Leave the group; what is unfinished is read again by whoever takes over."""
        self._sink.close()
        self._source.close()

    def recover(self) -> None:
        """Start from what is committed, whatever happened before."""
        self._asks(KAFKA_PATIENCE_S)
        if self._stage.keeps is Keeps.OFFSETS_IN_KAFKA:
            self._sink.ready()  # First: it ends an open transaction, so that offsets are final.
        self._asks(STORE_PATIENCE_S)
        if self._answered:
            self._answered.load()
        if self._forgotten:
            self._forgotten.load()
        if self._said:
            self._said.forget()
        if self._pairing:
            self._pairing.clear()
        self._held.clear()
        self._ahead = {}
        self._source.rewind()

    def step(self) -> int:
        """Handle one batch; return how many records were read or handled, or wait: 0 at rest."""
        self._handled = False
        # New partitions bring the positions that the store has of them.
        self._asks(STORE_PATIENCE_S if self._positions else KAFKA_PATIENCE_S)
        self._release_due()
        records = self._source.poll(self._records_max, self._wait_s(), self._linger_s())
        self._asks(STORE_PATIENCE_S)
        self._polled_at = self.beat
        records = self._hold_back(records)
        self._note_how_busy(len(records))
        if self._pairing:
            records = self._pairing.take(records, monotonic(), self._busy)
            self._keep_abreast(self._pairing.ahead())
        if not records:
            if self._said:
                self._said.tidy()
            return self._last or self._waiting()
        traced = UNTRACED if self._tracer is None else self._tracer.batch(records)
        with self._metrics.batch(len(records)), traced:
            done = after = positions_after(records)
            outputs: list[Output] = []
            if self._said:
                outputs, records = self._said.recall(records)
                done = positions_after(records)
            if self._forgotten:
                records = self._forgotten.remembered(records)
            silent, new = self._answered.split(records) if self._answered else ((), records)
            if silent:
                self._handle(silent, self._read(silent), {})
            if new or self._positions:
                outputs += self._handle(new, self._read(new), done)
            if self._stage.keeps is Keeps.OFFSETS_IN_KAFKA:
                self._publish(outputs, after)
                if self._said and outputs:
                    self._said.published(after)
            else:
                self._source.show_progress(after)
        self._handled = True
        return max(self._last, len(records))

    def _waiting(self) -> int:
        return self._pairing.keeps if self._pairing else 0

    def _asks(self, patience_s: float) -> None:
        """Note that a call begins that may take so long."""
        self.beat, self.patience_s = monotonic(), patience_s

    # One batch -----------------------------------------------------------------------------

    def _read(self, records: Sequence[Record]) -> list[Any]:
        """Return each record's event, or the exception that it failed with."""
        reads, events = self._stage.reads, list[Any]()
        for record in records:
            try:
                events.append(reads[record.topic() or ""](record))
            except Malformed as error:
                events.append(error)
            except Exception as error:  # noqa: BLE001 - must not stop those behind the record
                malformed = Malformed(f"{type(error).__name__}: {error}")
                malformed.__cause__ = error
                events.append(malformed)
        return events

    def _handle(
        self, records: Sequence[Record], events: Sequence[Any], after: Positions
    ) -> list[Output]:
        """Handle the records in one store transaction, or in several around a bad record.

        `after` is where to go on behind them.
        """
        self._asks(STORE_PATIENCE_S)  # For each transaction anew: a split batch has many.
        fine = [not isinstance(event, Exception) for event in events]
        good = Batch([*compress(records, fine)], [*compress(events, fine)], self._clock())
        try:
            with self._database.transaction() as tx:
                outputs = list(self._stage.handle(good, tx)) if good else []
                if len(good) < len(records):
                    for record, error in zip(records, events, strict=True):
                        if isinstance(error, Exception):
                            outputs += self._failed(record, error)
                if self._positions:
                    if outputs:
                        self._sink.send(outputs)
                    self._positions.advance(tx, after)
                if self._said:
                    self._said.keep(tx, after, outputs)
            if keeper := self._positions or self._said:
                keeper.confirm(after)
            return outputs
        except (Unavailable, TransactionAborted, Fenced):
            raise
        except Exception as error:  # Whatever else a handler raises is a record's fault.
            if len(good) == len(records) == 1:
                return self._handle(records, [error], after)
            if len(records) == 1:
                raise
            middle = len(records) // 2
            return self._handle_part(records[:middle], events[:middle]) + self._handle_part(
                records[middle:], events[middle:]
            )

    def _handle_part(self, records: Sequence[Record], events: Sequence[Any]) -> list[Output]:
        return self._handle(records, events, positions_after(records))

    def _publish(self, outputs: Sequence[Output], after: Positions) -> None:
        self._asks(KAFKA_PATIENCE_S)
        self._sink.begin()
        for output in outputs:
            self._sink.produce(output)
        self._asks(KAFKA_PATIENCE_S)
        self._sink.send_offsets(after)
        self._asks(KAFKA_PATIENCE_S)
        self._sink.commit()

    def _failed(self, record: Record, error: Exception) -> list[Output]:
        """Decide between another try and the dead letters, and log it."""
        topic = record.topic() or ""
        if self._tracer is not None:
            self._tracer.failed(record, error)
        if isinstance(error, Malformed) and topic not in self._stage.parks:
            self._metrics.passed_over()
            return []  # Another stage parks it (Stage.parks), so that it is parked once.
        if topic.endswith(self._suffix):
            log.error(
                "passed over a dead letter that cannot be handled", **about(record), exc_info=error
            )
            self._metrics.passed_over()
            return []  # It is parked already.
        tries = tries_before(record) + 1
        policy = self._policy
        retry_topic = topic if topic in self._home_of else self._stage.retries.get(topic)
        if retry_topic is None:
            policy = RetryPolicy(0, 0)
        decision = after_failure(tries, to_epoch_ms(self._clock()), policy)
        if isinstance(decision, Park) or retry_topic is None:
            log.error("parked as a dead letter", **about(record), tries=tries, exc_info=error)
            self._metrics.parked()
            home = self._home_of.get(topic, topic)
            letter = dead_letter_output(record, home + self._suffix, error, self._group)
            return [letter, *self._stage.gave_up(record)]
        log.warning("failed, will be tried again", **about(record), tries=tries, reason=error)
        self._metrics.retried()
        return [retry_output(record, retry_topic, decision, self._group)]

    # Records that wait for their time ------------------------------------------------------

    def _hold_back(self, records: Sequence[Record]) -> Sequence[Record]:
        """Put partitions of the retry topic on hold from their first record not yet due.

        A retry topic has one delay, so its records are due in the order they stand in.
        """
        if not self._home_of or not any(record.topic() in self._home_of for record in records):
            return records
        now_ms = to_epoch_ms(self._clock())
        due_now: list[Record] = []
        held: set[Partition] = set()
        for record in records:
            partition = (record.topic() or "", record.partition() or 0)
            if partition in held:
                continue
            if partition[0] in self._home_of and (left_ms := wait_ms(record, now_ms, self._policy)):
                held.add(partition)
                self._held[partition] = now_ms + left_ms
                self._source.hold(partition, record.offset() or 0)
            else:
                due_now.append(record)
        return due_now

    def _release_due(self) -> None:
        now_ms = to_epoch_ms(self._clock())
        for partition in [p for p, due in self._held.items() if due <= now_ms]:
            del self._held[partition]
            self._source.release(partition)

    def _keep_abreast(self, ahead: Positions | None) -> None:
        """Read no further there, and go on elsewhere; None changes nothing."""
        if ahead is None:
            return
        for partition in self._ahead.keys() - ahead.keys():
            self._source.release(partition)
        for partition in ahead.keys() - self._ahead.keys():
            self._source.hold(partition, ahead[partition])
        self._ahead = ahead

    def _linger_s(self) -> float:
        """Return how long to wait for a fuller batch: not at all for one behind a full one.

        Under load, records that came while the last batch was handled have waited meanwhile.
        """
        if self._last == self._records_max:
            return 0.0
        least_s, most_s = self._stage.linger_s
        left_s = most_s * self._busy - (monotonic() - self._polled_at)
        # Even when none is left: what came meanwhile is still to be fetched.
        return max(least_s, min(FETCH_S, most_s) * self._busy, left_s)

    def _note_how_busy(self, count: int) -> None:
        """Take in how many records a batch had; under load a small one comes between large ones."""
        self._last = count
        self._busy = max(min(count / self._stage.busy_records, 1), self._busy / 2)

    def _wait_s(self) -> float:
        if self._waiting():
            return PAIR_WAIT_S
        if not self._held:
            return POLL_WAIT_S
        soonest = from_epoch_ms(min(self._held.values())) - self._clock()
        return min(max(soonest.total_seconds(), 0.001), POLL_WAIT_S)
