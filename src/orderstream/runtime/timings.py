"""How many requests were answered, how, and how fast: `http_server_requests_seconds`.

The name and the labels are those of Spring's dashboards, as a histogram. A request takes as long as
its answer takes to begin: a stream's end says nothing. Written by one event loop alone, without the
locks of prometheus_client's own, which an order would feel; read at each scrape.
"""

from bisect import bisect_left
from collections.abc import Iterator
from itertools import accumulate
from typing import Any

from prometheus_client.metrics_core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from orderstream.runtime.clock import monotonic

NAME = "http_server_requests_seconds"
BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
UNKNOWN = "UNKNOWN"  # Spring's word for a path without a route: strangers' paths become no labels.

_BOUNDS = [*map(str, BUCKETS_S), "+Inf"]
_OUTCOMES = ("INFORMATIONAL", "SUCCESS", "REDIRECTION", "CLIENT_ERROR", "SERVER_ERROR")


class _Cell:
    """The requests to one route that had one status."""

    __slots__ = ("counts", "seconds")

    def __init__(self) -> None:
        self.counts = [0] * len(_BOUNDS)
        self.seconds = 0.0


class Timings(Collector):
    """Requests by method, route and status. `observe` is for one thread, `collect` for any."""

    def __init__(self) -> None:
        self._cells: dict[tuple[str, str, int], _Cell] = {}

    def observe(self, method: str, uri: str, status: int, seconds: float) -> None:
        """Count a request to a route that was answered after so long."""
        cell = self._cells.get((method, uri, status))
        if cell is None:
            cell = self._cells[method, uri, status] = _Cell()
        cell.counts[bisect_left(BUCKETS_S, seconds)] += 1
        cell.seconds += seconds

    def collect(self) -> Iterator[Metric]:
        """Yield the histogram for a scrape."""
        labels = ("method", "uri", "status", "outcome")
        family = HistogramMetricFamily(NAME, "Time until an answer began", labels=labels)
        for (method, uri, status), cell in list(self._cells.items()):
            buckets = list(zip(_BOUNDS, map(float, accumulate(cell.counts)), strict=True))
            said = (method, uri, str(status), _OUTCOMES[status // 100 - 1])
            family.add_metric(said, buckets, cell.seconds)
        yield family


TIMINGS = Timings()  # This process's.


class Timed:
    """Times what an ASGI app answers."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request (ASGI)."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = monotonic()
        begun = False

        def observe(status: int) -> None:
            uri: str = getattr(scope.get("route"), "path", UNKNOWN)
            TIMINGS.observe(scope["method"], uri, status, monotonic() - began)

        async def sending(message: Any) -> None:
            nonlocal begun
            if not begun and message["type"] == "http.response.start":
                begun = True
                observe(message["status"])
            await send(message)

        try:
            await self._app(scope, receive, sending)
        except Exception:
            if not begun:
                observe(500)
            raise
