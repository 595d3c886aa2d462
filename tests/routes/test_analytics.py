"""The numbers over HTTP: ranges, zones, units, CSV, refusals and the feed."""

import asyncio
import csv
import io
from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import Any

import pytest
from fastapi import FastAPI

from orderstream.analytics.api import analytics_routes
from orderstream.analytics.feed import SummaryFeed
from orderstream.analytics.rules import Accepted, Counted, count
from orderstream.analytics.store_postgres import PostgresCounts
from orderstream.contract.errors import Unavailable
from orderstream.runtime.clock import utc_now
from orderstream.runtime.database import Database
from orderstream.runtime.web import web_app
from tests.builders import NOON, an_order, rejected, reserved
from tests.routes.asking import ask, problem_of

HOUR = "from=2026-11-21T12:00Z&to=2026-11-21T13:00Z"
KINDS = ("summary", "timeseries", "top", "skus", "users", "funnel", "latency")
CUT = ("timeseries", "skus", "users", "latency")
EVENTS: list[Counted] = [
    Accepted("1", NOON),
    Accepted("2", NOON),
    Accepted("3", NOON),
    reserved(an_order(("=1+1", 2), order_id=1, user_id="@ann")),
    rejected(an_order(("MUG", 4), order_id=2, user_id="bob"), "MUG"),
]


@pytest.fixture
def database(dsn: str) -> Iterator[Database]:
    database = Database(dsn, "analytics")
    yield database
    database.close()


@pytest.fixture
def app(database: Database) -> FastAPI:
    """The service's API over the counts of three orders."""
    counts = PostgresCounts(database)
    keys = [event.key for event in EVENTS]
    with database.transaction() as tx:
        counts.add(tx, keys, partial(count, keys, EVENTS))
    app = web_app("analytics", {})
    app.include_router(analytics_routes(counts, utc_now, SummaryFeed(counts.summary)))
    return app


def get(app: FastAPI, what: str) -> Any:
    answer = ask(app, "GET", f"/api/analytics/{what}")
    assert answer.status_code == 200, answer.text
    return answer.json()


def table(app: FastAPI, what: str, **headers: str) -> list[list[str]]:
    answer = ask(app, "GET", f"/api/analytics/{what}", headers=headers)
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    return list(csv.reader(io.StringIO(answer.text)))


class TestNumbers:
    def test_the_summary_is_of_all_time_or_of_a_range(self, app: FastAPI) -> None:
        assert get(app, "summary")["pending"] == 1
        assert get(app, f"summary?{HOUR}")["accepted"] == 3
        assert get(app, "summary?to=2026-11-21T12:00Z")["accepted"] == 0

    def test_a_time_without_a_zone_is_one_of_the_zone(self, app: FastAPI) -> None:
        def accepted(zone: str) -> int:
            query = f"from=2026-11-21T12:00&to=2026-11-21T13:00&zone={zone}"
            return get(app, f"summary?{query}")["accepted"]

        assert (accepted("UTC"), accepted("Europe/Berlin")) == (3, 0)

    def test_over_time_each_row_says_when_its_unit_begins(self, app: FastAPI) -> None:
        query = f"{HOUR}&unit=day&zone=Asia/Kathmandu"
        day = "2026-11-21T00:00:00.000+05:45"
        assert get(app, f"timeseries?{query}")["days"][0]["day"] == day
        assert get(app, f"latency?{query}")["days"][0]["day"] == day
        assert get(app, f"skus?{query}")["skus"][0] == {
            "day": day,
            "sku": "=1+1",
            "sold": 2,
            "lost": 0,
            "sellThrough": 1.0,
        }
        assert {row["day"] for row in get(app, f"users?{query}")["users"]} == {day}

    def test_one_sku_or_user_alone(self, app: FastAPI) -> None:
        assert [row["sku"] for row in get(app, "skus?sku=MUG")["skus"]] == ["MUG"]
        assert [row["sku"] for row in get(app, "skus?by=lost&limit=1")["skus"]] == ["MUG"]
        users = get(app, f"users?{HOUR}&userId=bob")["users"]
        assert [(row["userId"], row["outcomes"]["REJECTED"]) for row in users] == [("bob", 1)]


class TestCsv:
    @pytest.mark.parametrize("what", KINDS)
    def test_has_a_heading_and_the_rows_that_json_has(self, app: FastAPI, what: str) -> None:
        names, *rows = table(app, f"{what}?{HOUR}&format=csv")
        assert rows
        assert all(len(row) == len(names) for row in rows)

    @pytest.mark.parametrize("what", CUT)
    def test_over_time_begins_with_the_unit(self, app: FastAPI, what: str) -> None:
        names, first, *_ = table(app, f"{what}?{HOUR}&unit=hour", accept="text/csv")
        assert (names[0], first[0]) == ("hour", "2026-11-21T12:00:00.000Z")

    def test_no_text_of_a_client_is_a_formula(self, app: FastAPI) -> None:
        assert table(app, "skus?format=csv")[1] == ["'=1+1", "2", "0", "1.0"]
        assert table(app, f"users?{HOUR}&format=csv")[1][0] == "'@ann"

    def test_what_was_asked_for_stands_before_what_is_accepted(self, app: FastAPI) -> None:
        answer = ask(app, "GET", "/api/analytics/top?format=json", headers={"accept": "text/csv"})
        assert answer.headers["content-type"] == "application/json"

    def test_of_nothing_is_a_heading(self, app: FastAPI) -> None:
        assert table(app, "skus?sku=none&format=csv") == [["sku", "sold", "lost", "sellThrough"]]


class TestRefusals:
    @pytest.mark.parametrize(
        ("query", "field"),
        [
            ("zone=Mars", "zone"),
            ("zone=../../etc/passwd", "zone"),
            ("zone=America", "zone"),
            ("zone=", "zone"),
            ("from=yesterday", "from"),
            ("to=9999-12-31", "to"),
            ("from=2026-11-22&to=2026-11-21", "from"),
            ("format=xml", "format"),
        ],
    )
    @pytest.mark.parametrize("what", KINDS)
    def test_name_the_parameter(self, app: FastAPI, what: str, query: str, field: str) -> None:
        answer = ask(app, "GET", f"/api/analytics/{what}?{query}")
        assert (answer.status_code, problem_of(answer)) == (422, "invalid-request")
        assert answer.json()["field"] == field

    @pytest.mark.parametrize("what", CUT)
    def test_a_range_has_a_limit_of_units(self, app: FastAPI, what: str) -> None:
        answer = ask(app, "GET", f"/api/analytics/{what}?from=2020-01-01&unit=minute")
        assert (answer.status_code, answer.json()["field"]) == (422, "unit")
        assert ask(app, "GET", f"/api/analytics/{what}?from=2020-01-01&unit=day").is_success


class TestFeed:
    def test_tells_the_summary_at_once_and_when_it_changed_for_one_question_of_all(self) -> None:
        asked = 0

        def read() -> dict[str, Any]:
            nonlocal asked
            asked += 1
            return {"orders": min(asked, 2)}

        async def hear() -> list[list[bytes]]:
            feed = SummaryFeed(read)
            all_told = await asyncio.gather(*(take(feed.listen(), 3) for _ in range(5)))
            await feed.close()
            return all_told

        told = asyncio.run(hear())
        assert (
            told
            == [
                [
                    b"retry: 1000\n\n",
                    b'event: summary\ndata: {"orders":1}\n\n',
                    b'event: summary\ndata: {"orders":2}\n\n',
                ]
            ]
            * 5
        )
        assert asked <= 3

    def test_waits_for_a_store_that_is_away(self) -> None:
        answers: Iterator[Any] = iter([Unavailable("away"), {"orders": 1}])

        def read() -> dict[str, Any]:
            answer = next(answers)
            if isinstance(answer, Exception):
                raise answer
            return answer

        async def hear() -> list[bytes]:
            return await take(SummaryFeed(read).listen(), 2)

        assert b'"orders":1' in asyncio.run(hear())[1]

    def test_is_for_so_many_and_no_more(self) -> None:
        async def hear() -> None:
            feed = SummaryFeed(lambda: {}, listeners_max=1)
            first = feed.listen()
            await anext(first)
            with pytest.raises(Unavailable, match="the most"):
                await anext(feed.listen())
            await feed.close()
            with pytest.raises(Unavailable, match="about to end"):
                await anext(feed.listen())

        asyncio.run(hear())

    def test_a_silence_is_a_heartbeat(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("orderstream.runtime.listener.HEARTBEAT_S", 0.05)

        async def hear() -> list[bytes]:
            return await take(SummaryFeed(lambda: {}).listen(), 3)

        assert asyncio.run(hear())[2] == b": still here\n\n"


async def take(events: AsyncIterator[bytes], number: int) -> list[bytes]:
    """Return so many events, and go."""
    taken: list[bytes] = []
    async for event in events:
        taken.append(event)
        if len(taken) == number:
            break
    return taken
