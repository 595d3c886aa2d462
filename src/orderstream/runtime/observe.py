"""What a service shows of itself: metrics and health."""

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager

from prometheus_client import Counter, Gauge, Histogram

from orderstream import __version__
from orderstream.contract.errors import Unavailable
from orderstream.runtime.clock import monotonic

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
_build = Gauge("orderstream_build_info", "1; what runs here", ["service", "version", "worker"])
_running = Gauge("orderstream_stage_running", "1 while the stage handles records", ["stage"])


def present(service: str, worker: int = 0) -> None:
    """Say which service this process is, and which of its workers."""
    _build.labels(service, __version__, str(worker)).set(1)


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
