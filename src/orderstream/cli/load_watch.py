"""Waits until every service has done its part of the orders that were placed."""

import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from orderstream.cli.output import Refused, api_of, in_path
from orderstream.contract.errors import Unavailable
from orderstream.flow import flow

if TYPE_CHECKING:
    from orderstream.runtime.admin import Admin
    from orderstream.runtime.settings import Settings

LOOK_EVERY_S = 0.02
NOT_FOUND = 404
UNDECIDED = "PENDING"

Ends = dict[tuple[str, int], int]


@dataclass(frozen=True)
class Followed:
    """When each service was seen to have done its part (perf_counter), and who was not."""

    at: dict[str, float]
    missing: tuple[str, ...]


class Watch:
    """Follows the orders behind the order service, from before the first to after the last.

    A service has done its part when its group has read past the place where the log ended. Others
    may place orders meanwhile: theirs are waited for too, never taken for ours.
    """

    def __init__(self, settings: "Settings", admin: "Admin") -> None:
        """Take note of what was counted before. Raises Unavailable or Refused."""
        self._settings = settings
        self._admin = admin
        self._counted_before = self._counted()

    def wait(self, accepted: int, last_answer: bytes, within_s: float) -> Followed:
        """Wait for the orders that were accepted; `last_answer` is that to the last one.

        A service or broker that is away meanwhile is asked again.
        """
        deadline = time.perf_counter() + within_s
        topics = self._settings.topics
        at: dict[str, float] = {}
        steps = (
            ((topics.order_created,), ("inventory",)),
            (
                (topics.order_created, topics.inventory_reserved, topics.inventory_rejected),
                ("analytics", "notification", "view"),
            ),
        )
        missing: list[str] = []
        for written, readers in steps:
            ends: Ends | None = None
            missing = list(readers)
            while missing and time.perf_counter() < deadline:
                with suppress(Unavailable):
                    ends = ends or self._ends(written)
                    for name in list(missing):
                        if self._done(name, ends, accepted, last_answer):
                            at[name] = time.perf_counter()
                            missing.remove(name)
                if missing:
                    time.sleep(LOOK_EVERY_S)
            if missing:
                break
        return Followed(at, tuple(missing))

    def _done(self, name: str, ends: Ends, accepted: int, last_answer: bytes) -> bool:
        match name:
            case "analytics" if self._counted() < self._counted_before + accepted:
                return False
            case "view" if not self._decided(last_answer):
                return False
            case _:
                return self._has_read(name, ends)

    def _ends(self, topics: tuple[str, ...]) -> Ends:
        counts = self._admin.partitions()
        return self._admin.ends((t, n) for t in topics for n in range(counts.get(t, 0)))

    def _has_read(self, service: str, ends: Ends) -> bool:
        """Tell whether a group has read up to there, of the topics that it reads.

        Results are written in transactions, and the mark that ends one takes an offset that no
        reader commits; where a mark is all that is left, everything is read.
        """
        topics = self._settings.topics
        reads = next(step.reads for step in flow(topics) if step.service == service)
        lags = self._admin.lag(self._settings.group(service), reads)
        return all(
            (lag.committed or 0) + (lag.topic != topics.order_created)
            >= ends.get((lag.topic, lag.partition), 0)
            for lag in lags
        )

    def _counted(self) -> int:
        with api_of("analytics", self._settings) as api:
            return int(api.get("/api/analytics/summary")["orders"])

    def _decided(self, answer: bytes) -> bool:
        """Tell whether the page of the order in this answer shows what was decided."""
        try:
            order_id = msgspec.json.decode(answer)["orderId"]
        except (msgspec.DecodeError, KeyError, TypeError):
            return True  # Another service's answer: its group's progress has to do.
        try:
            with api_of("order", self._settings) as api:
                page = api.get(f"/api/orders/{in_path(str(order_id))}")
        except Refused as error:
            if error.status == NOT_FOUND:
                return False
            raise
        return page["status"] != UNDECIDED


def watch(settings: "Settings") -> Watch:
    """Return a watch on the services of these settings. Raises Unavailable or Refused."""
    from orderstream.cli.topics import admin_of

    try:
        return Watch(settings, admin_of(settings))
    except Unavailable as error:
        raise Unavailable(f"--until-decided cannot follow the orders: {error}") from error
