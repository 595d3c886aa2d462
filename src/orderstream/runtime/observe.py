"""What a service shows of itself: logs, metrics, health."""

import logging
import sys
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any

import structlog
from prometheus_client import Counter, Gauge, Histogram

from orderstream.contract.envelope import rfc3339
from orderstream.contract.errors import Unavailable
from orderstream.runtime.clock import monotonic, utc_now

ECS_VERSION = "8.11.0"

_records = Counter("orderstream_stage_records", "Records handled", ["stage"])
_seconds = Histogram(
    "orderstream_stage_batch_seconds",
    "Time from a batch's records in hand to its commit",
    ["stage"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
_events = Counter(
    "orderstream_stage_events",
    "What happened to batches and records: aborted, paused, retried, parked, passed_over",
    ["stage", "event"],
)
_running = Gauge("orderstream_stage_running", "1 while the stage handles records", ["stage"])


class StageMetrics:
    """One stage's counters, and whether it is running or paused."""

    def __init__(self, stage: str) -> None:
        self._records = _records.labels(stage)
        self._seconds = _seconds.labels(stage)
        self._running = _running.labels(stage)
        self._events = {
            event: _events.labels(stage, event)
            for event in ("aborted", "paused", "retried", "parked", "passed_over")
        }
        self.fault: str | None = "starting"

    @contextmanager
    def batch(self, records: int) -> Generator[None]:
        """Measure one batch; it counts only if it succeeds."""
        began = monotonic()
        yield
        self._seconds.observe(monotonic() - began)
        self._records.inc(records)

    def running(self) -> None:
        """Say that the stage gets on."""
        if self.fault is not None:
            self.fault = None
            self._running.set(1)

    def paused(self, reason: str) -> None:
        """Say that the stage waits for a dependency."""
        self.fault = reason
        self._running.set(0)
        self._events["paused"].inc()

    def aborted(self) -> None:
        """Count a transaction rolled back."""
        self._events["aborted"].inc()

    def retried(self) -> None:
        """Count a record to be tried again."""
        self._events["retried"].inc()

    def parked(self) -> None:
        """Count a dead letter."""
        self._events["parked"].inc()

    def passed_over(self) -> None:
        """Count an unreadable record that another stage parks."""
        self._events["passed_over"].inc()


Check = Callable[[], None]


def readiness(checks: Mapping[str, Check]) -> dict[str, str]:
    """Run every check, and return the faults by name: empty when ready."""
    faults: dict[str, str] = {}
    for name, check in checks.items():
        try:
            check()
        except Unavailable as error:
            faults[name] = str(error)
    return faults


def configure_logs(service: str, level: str, *, human: bool | None = None) -> None:
    """Log for people on a terminal, as ECS JSON otherwise, one line each, to standard output."""
    if human is None:
        human = sys.stdout.isatty()
    last: list[Any] = (
        [structlog.dev.ConsoleRenderer(colors=sys.stdout.isatty())]
        if human
        else [_ecs(service), structlog.processors.JSONRenderer()]
    )
    structlog.configure(
        processors=[
            structlog.stdlib.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            *last,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level]),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stdout),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(handlers=[_ToStructlog()], level=logging.WARNING, force=True)
    # What the pool says of a lost connection is said again, once, by whoever needed it.
    logging.getLogger("psycopg.pool").setLevel(logging.CRITICAL)


class _ToStructlog(logging.Handler):
    """Passes on what libraries log, in our form."""

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info if record.exc_info and record.exc_info[0] else None
        structlog.get_logger(record.name).log(record.levelno, record.getMessage(), exc_info=error)


def _ecs(service: str) -> structlog.typing.Processor:
    def rename(_logger: Any, _method: str, event: Any) -> Any:
        error = event.pop("exception", None)
        line = {
            "@timestamp": event.pop("timestamp", None) or rfc3339(utc_now()),
            "log.level": event.pop("level", "info"),
            "message": event.pop("event", ""),
            "ecs.version": ECS_VERSION,
            "service.name": f"orderstream-{service}",
        }
        if error:
            line["error.stack_trace"] = error
        if event:
            line["labels"] = {key: str(value) for key, value in event.items()}
        return line

    return rename
