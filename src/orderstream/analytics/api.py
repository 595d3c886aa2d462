"""Numbers over HTTP, as JSON and as CSV."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Annotated, Any, Literal, cast
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Depends, Header, Query, Response
from fastapi.responses import StreamingResponse

from orderstream.analytics.feed import SummaryFeed
from orderstream.analytics.ranges import Cut, Range, Unit
from orderstream.analytics.rules import OUTCOMES, latency_ms, quantile_ms
from orderstream.analytics.store import CountStore, Row
from orderstream.contract.values import ID_LENGTH_MAX, SKU_LENGTH_MAX
from orderstream.runtime.clock import Clock
from orderstream.runtime.described import answer_of
from orderstream.runtime.web import (
    CSV,
    LocalTime,
    Problem,
    csv_response,
    event_stream,
    json_response,
)

UNITS_MAX = 20_000  # Of one answer: two weeks of minutes, two years of hours.
LENGTHS = {  # Of a range of which only the end is given, or nothing.
    Unit.MINUTE: timedelta(hours=1),
    Unit.HOUR: timedelta(days=1),
    Unit.DAY: timedelta(days=30),
}
DAY = timedelta(days=1)
QUARTER_S = 900
_OUTCOMES = tuple(OUTCOMES.values())
QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}

From = Annotated[LocalTime | None, Query(alias="from", description="its own minute included")]
To = Annotated[LocalTime | None, Query(alias="to", description="before this time; now")]
Zone = Annotated[
    str,
    Query(max_length=64, description="IANA name: of times without a zone, and of hours and days"),
]
Empty = Annotated[bool, Query(description="units in which nothing happened as well")]
Limit = Annotated[int, Query(ge=1, le=1000)]
By = Annotated[Literal["sold", "lost"], Query(description="of what there is most comes first")]

_TABLE: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The numbers",
        "content": {
            "application/json": {"schema": {"type": "object"}},
            CSV: {"schema": {"type": "string"}},
        },
    }
}


def wants_csv(
    format: Annotated[
        Literal["json", "csv"] | None, Query(description="stands before the header `Accept`")
    ] = None,
    accept: Annotated[str | None, Header()] = None,
) -> bool:
    """Tell in which form an answer is wanted."""
    return format == "csv" or (format is None and CSV in (accept or "").lower())


AsCsv = Annotated[bool, Depends(wants_csv)]


def analytics_routes(store: CountStore, clock: Clock, feed: SummaryFeed) -> APIRouter:
    """Read the counts."""
    routes = APIRouter(tags=["analytics"])

    def range_of(
        since: datetime | None, until: datetime | None, zone: str, usual: timedelta
    ) -> Range:
        place = _zone(zone)
        end = _in(place, until) or clock() + timedelta(minutes=1)
        if until is None and usual >= DAY:  # What is long is kept by the quarter of an hour too.
            end += timedelta(seconds=-end.timestamp() % QUARTER_S)
        begin = _in(place, since) or end - usual
        if begin > end:
            said = "The range begins behind its end."
            raise Problem(422, "invalid-request", said, field="from")
        return Range(begin, end)

    def cut_of(of: Range, unit: Unit, zone: str) -> Cut:
        if of.units(unit) > UNITS_MAX:
            said = f"A range may have at most {UNITS_MAX:,} {unit}s: take a longer unit."
            raise Problem(422, "invalid-request", said, field="unit")
        return Cut(unit, _zone(zone))

    @routes.get(
        "/api/analytics/summary", summary="Orders by outcome, decision latency", responses=_TABLE
    )
    def summary(  # pyright: ignore[reportUnusedFunction]
        as_csv: AsCsv, since: From = None, until: To = None, zone: Zone = "UTC"
    ) -> Response:
        if since is None and until is None:
            _zone(zone)
            document = store.summary()
        else:
            document = store.happened(range_of(since, until, zone, DAY))
        return _answer(document, [document], as_csv)

    @routes.get(
        "/api/analytics/timeseries", summary="What happened, unit by unit", responses=_TABLE
    )
    def timeseries(  # pyright: ignore[reportUnusedFunction]
        as_csv: AsCsv,
        since: From = None,
        until: To = None,
        zone: Zone = "UTC",
        unit: Unit = Unit.MINUTE,
        empty: Empty = False,
    ) -> Response:
        of = range_of(since, until, zone, LENGTHS[unit])
        rows = store.timeseries(of, cut_of(of, unit, zone), empty)
        names = (unit.value, "accepted", *_OUTCOMES)
        return _answer({"zone": zone, f"{unit}s": rows}, rows, as_csv, names)

    @routes.get("/api/analytics/top", summary="The SKUs that sold most", responses=_TABLE)
    def top(  # pyright: ignore[reportUnusedFunction]
        as_csv: AsCsv,
        since: From = None,
        until: To = None,
        zone: Zone = "UTC",
        limit: Limit = 10,
    ) -> Response:
        _zone(zone)
        given = since is not None or until is not None
        rows = store.skus(range_of(since, until, zone, DAY) if given else None, limit)
        rows = [{name: row[name] for name in ("sku", "sold", "lost")} for row in rows]
        return _answer({"skus": rows}, rows, as_csv, ("sku", "sold", "lost"))

    @routes.get(
        "/api/analytics/skus",
        summary="What was sold of SKUs, and lost for want of them; with a unit over time",
        responses=_TABLE,
    )
    def skus(  # pyright: ignore[reportUnusedFunction]
        as_csv: AsCsv,
        since: From = None,
        until: To = None,
        zone: Zone = "UTC",
        unit: Unit | None = None,
        sku: Annotated[str | None, Query(max_length=SKU_LENGTH_MAX)] = None,
        by: By = "sold",
        limit: Limit = 100,
    ) -> Response:
        names = ("sku", "sold", "lost", "sellThrough")
        if unit is not None:
            of = range_of(since, until, zone, LENGTHS[unit])
            rows = store.skus_over_time(of, cut_of(of, unit, zone), limit, by, sku)
            return _answer({"zone": zone, "skus": rows}, rows, as_csv, (unit.value, *names))
        _zone(zone)
        given = since is not None or until is not None
        rows = store.skus(range_of(since, until, zone, DAY) if given else None, limit, by, sku)
        return _answer({"skus": rows}, rows, as_csv, names)

    @routes.get(
        "/api/analytics/users",
        summary="What became of users' orders; with a unit over time",
        responses=_TABLE,
    )
    def users(  # pyright: ignore[reportUnusedFunction]
        as_csv: AsCsv,
        since: From = None,
        until: To = None,
        zone: Zone = "UTC",
        unit: Unit | None = None,
        userId: Annotated[str | None, Query(max_length=ID_LENGTH_MAX)] = None,
        limit: Limit = 100,
    ) -> Response:
        names = ("userId", *_OUTCOMES)
        of = range_of(since, until, zone, LENGTHS[unit] if unit else DAY)
        if unit is not None:
            rows = store.users_over_time(of, cut_of(of, unit, zone), limit, userId)
            return _answer({"zone": zone, "users": rows}, rows, as_csv, (unit.value, *names))
        rows = store.users(of, limit, userId)
        return _answer({"users": rows}, rows, as_csv, names)

    @routes.get(
        "/api/analytics/funnel", summary="How far orders came, and where they are", responses=_TABLE
    )
    def funnel(  # pyright: ignore[reportUnusedFunction]
        as_csv: AsCsv, since: From = None, until: To = None, zone: Zone = "UTC"
    ) -> Response:
        steps, now = store.funnel(range_of(since, until, zone, DAY))
        return _answer({"steps": steps, "now": now}, steps, as_csv, ("step", "orders", "share"))

    @routes.get(
        "/api/analytics/latency",
        summary="How long decisions took; with a unit over time",
        responses=_TABLE,
    )
    def latency(  # pyright: ignore[reportUnusedFunction]
        as_csv: AsCsv,
        since: From = None,
        until: To = None,
        zone: Zone = "UTC",
        unit: Unit | None = None,
        empty: Empty = False,
    ) -> Response:
        of = range_of(since, until, zone, LENGTHS[unit] if unit else DAY)
        if unit is not None:
            over_time = store.latency_over_time(of, cut_of(of, unit, zone), empty)
            rows = [
                {unit.value: at, "orders": sum(found.values())} | _quantiles(found)
                for at, found in over_time
            ]
            names = (unit.value, "orders", *QUANTILES)
            return _answer({"zone": zone, f"{unit}s": rows}, rows, as_csv, names)
        found = store.latency(of)
        rows = [
            {"upToMs": round(latency_ms(bucket), 1), "orders": found[bucket]}
            for bucket in sorted(found)
        ]
        document = {"orders": sum(found.values()), "ms": _quantiles(found), "histogram": rows}
        return _answer(document, rows, as_csv, ("upToMs", "orders"))

    @routes.get(
        "/api/analytics/feed",
        summary="The summary whenever it changes (server-sent events)",
        response_class=StreamingResponse,
        responses={200: answer_of("text/event-stream", "Summaries, until the client goes")},
    )
    async def summaries() -> StreamingResponse:  # pyright: ignore[reportUnusedFunction]
        return await event_stream(feed.listen())

    return routes


def _zone(name: str) -> tzinfo:
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        said = f"There is no time zone {name!r}; one is called Europe/Berlin, for example."
        raise Problem(422, "invalid-request", said, field="zone") from None


def _in(zone: tzinfo, at: datetime | None) -> datetime | None:
    return at.replace(tzinfo=zone) if at is not None and at.tzinfo is None else at


def _quantiles(histogram: Mapping[int, int]) -> Row:
    return {name: quantile_ms(histogram, share) for name, share in QUANTILES.items()}


def _answer(
    document: Row, rows: Sequence[Row], as_csv: bool, names: Sequence[str] | None = None
) -> Response:
    """Return a document, or its rows with what is inside of each spread out."""
    if not as_csv:
        return json_response(document)
    flat = [_flat(row) for row in rows]
    return csv_response(names or list(flat[0]), flat)


def _flat(row: Row) -> Row:
    flat: Row = {}
    for name, value in row.items():
        flat |= cast("Row", value) if isinstance(value, dict) else {name: value}
    return flat
