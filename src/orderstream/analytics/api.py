"""Numbers over HTTP, as JSON and as CSV."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Annotated, Any, Literal, cast
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Depends, Header, Query, Response
from fastapi.responses import StreamingResponse

from orderstream.analytics.feed import SummaryFeed
from orderstream.analytics.ranges import Cut, Range, Unit
from orderstream.analytics.rules import OUTCOMES, QUANTILES, latency_ms, quantiles_ms
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


@dataclass(frozen=True)
class When:
    """Which range a question is about, and whose times it names."""

    since: From = None
    until: To = None
    zone: Zone = "UTC"


Asked = Annotated[When, Depends()]


def analytics_routes(store: CountStore, clock: Clock, feed: SummaryFeed) -> APIRouter:
    """Read the counts."""
    routes = APIRouter(tags=["analytics"])

    def range_of(when: When, usual: timedelta) -> Range:
        place = _zone(when.zone)
        end = _in(place, when.until) or clock() + timedelta(minutes=1)
        if when.until is None and usual >= DAY:  # What is long is kept by the quarter, too.
            end += timedelta(seconds=-end.timestamp() % QUARTER_S)
        begin = _in(place, when.since) or end - usual
        if begin > end:
            said = "The range begins behind its end."
            raise Problem(422, "invalid-request", said, field="from")
        return Range(begin, end)

    def range_if_any(when: When) -> Range | None:
        """Return the range that is given; None for all time."""
        if when.since is None and when.until is None:
            _zone(when.zone)
            return None
        return range_of(when, DAY)

    def cut_of(of: Range, unit: Unit, zone: str) -> Cut:
        if of.units(unit) > UNITS_MAX:
            said = f"A range may have at most {UNITS_MAX:,} {unit}s: take a longer unit."
            raise Problem(422, "invalid-request", said, field="unit")
        return Cut(unit, _zone(zone))

    @routes.get(
        "/api/analytics/summary", summary="Orders by outcome, decision latency", responses=_TABLE
    )
    def summary(  # pyright: ignore[reportUnusedFunction]
        as_csv: AsCsv, when: Asked
    ) -> Response:
        of = range_if_any(when)
        document = store.summary() if of is None else store.happened(of)
        return _answer(document, [document], as_csv)

    @routes.get(
        "/api/analytics/timeseries", summary="What happened, unit by unit", responses=_TABLE
    )
    def timeseries(  # pyright: ignore[reportUnusedFunction]
        as_csv: AsCsv,
        when: Asked,
        unit: Unit = Unit.MINUTE,
        empty: Empty = False,
    ) -> Response:
        of = range_of(when, LENGTHS[unit])
        rows = store.timeseries(of, cut_of(of, unit, when.zone), empty)
        names = (unit.value, "accepted", *_OUTCOMES)
        return _answer({"zone": when.zone, f"{unit}s": rows}, rows, as_csv, names)

    @routes.get("/api/analytics/top", summary="The SKUs that sold most", responses=_TABLE)
    def top(  # pyright: ignore[reportUnusedFunction]
        as_csv: AsCsv,
        when: Asked,
        limit: Limit = 10,
    ) -> Response:
        rows = store.skus(range_if_any(when), limit)
        rows = [{name: row[name] for name in ("sku", "sold", "lost")} for row in rows]
        return _answer({"skus": rows}, rows, as_csv, ("sku", "sold", "lost"))

    @routes.get(
        "/api/analytics/skus",
        summary="What was sold of SKUs, and lost for want of them; with a unit over time",
        responses=_TABLE,
    )
    def skus(  # pyright: ignore[reportUnusedFunction]
        as_csv: AsCsv,
        when: Asked,
        unit: Unit | None = None,
        sku: Annotated[str | None, Query(max_length=SKU_LENGTH_MAX)] = None,
        by: By = "sold",
        limit: Limit = 100,
    ) -> Response:
        names = ("sku", "sold", "lost", "sellThrough")
        if unit is not None:
            of = range_of(when, LENGTHS[unit])
            rows = store.skus_over_time(of, cut_of(of, unit, when.zone), limit, by, sku)
            return _answer({"zone": when.zone, "skus": rows}, rows, as_csv, (unit.value, *names))
        rows = store.skus(range_if_any(when), limit, by, sku)
        return _answer({"skus": rows}, rows, as_csv, names)

    @routes.get(
        "/api/analytics/users",
        summary="What became of users' orders; with a unit over time",
        responses=_TABLE,
    )
    def users(  # pyright: ignore[reportUnusedFunction]
        as_csv: AsCsv,
        when: Asked,
        unit: Unit | None = None,
        userId: Annotated[str | None, Query(max_length=ID_LENGTH_MAX)] = None,
        limit: Limit = 100,
    ) -> Response:
        names = ("userId", *_OUTCOMES)
        of = range_of(when, LENGTHS[unit] if unit else DAY)
        if unit is not None:
            rows = store.users_over_time(of, cut_of(of, unit, when.zone), limit, userId)
            return _answer({"zone": when.zone, "users": rows}, rows, as_csv, (unit.value, *names))
        rows = store.users(of, limit, userId)
        return _answer({"users": rows}, rows, as_csv, names)

    @routes.get(
        "/api/analytics/funnel", summary="How far orders came, and where they are", responses=_TABLE
    )
    def funnel(  # pyright: ignore[reportUnusedFunction]
        as_csv: AsCsv, when: Asked
    ) -> Response:
        steps, now = store.funnel(range_of(when, DAY))
        return _answer({"steps": steps, "now": now}, steps, as_csv, ("step", "orders", "share"))

    @routes.get(
        "/api/analytics/latency",
        summary="How long decisions took; with a unit over time",
        responses=_TABLE,
    )
    def latency(  # pyright: ignore[reportUnusedFunction]
        as_csv: AsCsv,
        when: Asked,
        unit: Unit | None = None,
        empty: Empty = False,
    ) -> Response:
        of = range_of(when, LENGTHS[unit] if unit else DAY)
        if unit is not None:
            over_time = store.latency_over_time(of, cut_of(of, unit, when.zone), empty)
            rows = [
                {unit.value: at, "orders": sum(found.values())} | quantiles_ms(found)
                for at, found in over_time
            ]
            names = (unit.value, "orders", *QUANTILES)
            return _answer({"zone": when.zone, f"{unit}s": rows}, rows, as_csv, names)
        found = store.latency(of)
        rows = [
            {"upToMs": round(latency_ms(bucket), 1), "orders": found[bucket]}
            for bucket in sorted(found)
        ]
        document = {"orders": sum(found.values()), "ms": quantiles_ms(found), "histogram": rows}
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
