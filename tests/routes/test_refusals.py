"""What no route ever sees, whatever service it is sent to, and what a route cannot read."""

from collections.abc import AsyncIterator, Iterator

import pytest
from fastapi import FastAPI

from orderstream.analytics.api import analytics_routes
from orderstream.analytics.feed import SummaryFeed
from orderstream.analytics.store_postgres import PostgresCounts
from orderstream.contract.errors import OutcomeUnknown, Unavailable
from orderstream.inventory.api import CSV_BYTES_MAX, stock_routes
from orderstream.inventory.store_postgres import PostgresStock
from orderstream.notification.api import notice_routes
from orderstream.notification.store_postgres import PostgresNotices
from orderstream.notification.templates import Templates
from orderstream.order_view.api import view_routes
from orderstream.order_view.store_postgres import PostgresView
from orderstream.runtime.clock import utc_now
from orderstream.runtime.database import Database
from orderstream.runtime.web import BODY_BYTES_MAX, web_app
from tests.routes.asking import ask, problem_of


@pytest.fixture
def app(dsn: str) -> Iterator[FastAPI]:
    """Every service's API over empty stores."""
    databases = {
        schema: Database(dsn, schema)
        for schema in ("inventory", "order_view", "notification", "analytics")
    }
    app = web_app("all", {})
    app.include_router(stock_routes(PostgresStock(databases["inventory"])))
    app.include_router(view_routes(PostgresView(databases["order_view"])))
    app.include_router(
        notice_routes(PostgresNotices(databases["notification"]), {}, Templates(), utc_now)
    )
    counts = PostgresCounts(databases["analytics"])
    app.include_router(analytics_routes(counts, utc_now, SummaryFeed(counts.summary)))
    yield app
    for database in databases.values():
        database.close()


class TestControlCharacters:
    @pytest.mark.parametrize(
        ("path", "field"),
        [
            ("/api/orders/%00", "path"),
            ("/api/orders/a%C2%85", "path"),
            ("/api/orders?userId=%00", "userId"),
            ("/api/orders?sku=a%0Ab", "sku"),
            ("/api/orders?%00=1", "query"),
            ("/api/stock/%00", "path"),
            ("/api/stock/MUG%0A", "path"),
            ("/api/stock?after=%00", "after"),
            ("/api/notifications?orderId=%00", "orderId"),
        ],
    )
    def test_are_refused_with_the_field(self, app: FastAPI, path: str, field: str) -> None:
        answer = ask(app, "GET", path)
        assert (answer.status_code, problem_of(answer)) == (422, "invalid-request")
        assert answer.json()["field"] == field

    def test_other_characters_are_not(self, app: FastAPI) -> None:
        assert ask(app, "GET", "/api/orders?userId=%C3%80%20%F0%9F%8D%95").status_code == 200


class TestAnEmptyParameter:
    @pytest.mark.parametrize("name", ["sku", "userId", "cursor", "status"])
    def test_is_none_that_fits_or_is_refused(self, app: FastAPI, name: str) -> None:
        assert ask(app, "GET", f"/api/orders?{name}=").status_code in (200, 422)


class TestTimes:
    @pytest.mark.parametrize("path", ["/api/analytics/timeseries", "/api/orders"])
    @pytest.mark.parametrize("name", ["from", "to"])
    @pytest.mark.parametrize(
        "at", ["0001-01-01T00:00:00", "0001-01-01T00:00:00-12:00", "9999-12-31T23:59:59-12:00"]
    )
    def test_at_the_ends_of_the_calendar_are_refused(
        self, app: FastAPI, path: str, name: str, at: str
    ) -> None:
        answer = ask(app, "GET", path, params={name: at})
        assert (answer.status_code, answer.json()["field"]) == (422, name)
        assert answer.json()["detail"] == "must be in the years 1970 to 9998"

    @pytest.mark.parametrize("at", ["1970-01-01", "9998-12-31T23:59:59-12:00", "2026-11-21T08:00Z"])
    def test_between_them_are_taken(self, app: FastAPI, at: str) -> None:
        for path in ("/api/analytics/timeseries", "/api/orders"):
            assert ask(app, "GET", path, params={"from": at, "to": at}).status_code == 200


class TestAnImport:
    @pytest.mark.parametrize(
        ("line", "said"),
        [
            ("A,²", "no whole number"),
            ("A," + "1" * 5_000, "no whole number"),
            ("A," + "1" * 13, "no whole number"),
            ("A,-1", "no whole number"),
            ("A", "it has 1 values"),
            ("A" * 131_073 + ",1", "field larger"),
            ("A,1\rB,2", "new-line character"),
        ],
    )
    def test_of_a_line_that_is_none_is_refused_with_its_number(
        self, app: FastAPI, line: str, said: str
    ) -> None:
        body = f"sku,onHand\nMUG,1\n{line}\n".encode()
        answer = ask(app, "POST", "/api/stock:import", content=body)
        assert (answer.status_code, problem_of(answer)) == (422, "invalid-request")
        assert answer.json()["field"] == "line 3"
        assert said in answer.json()["detail"]
        assert ask(app, "GET", "/api/stock").json()["stock"] == []


class Endless:
    """A body that never ends, and how much of it was taken."""

    def __init__(self) -> None:
        self.taken = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            self.taken += 65_536
            yield b" " * 65_536


class TestABody:
    @pytest.mark.parametrize(
        ("method", "path", "bytes_max"),
        [
            ("POST", "/api/stock:import", CSV_BYTES_MAX),
            ("PUT", "/api/stock/MUG", BODY_BYTES_MAX),
            ("POST", "/api/stock/MUG/adjust", BODY_BYTES_MAX),
        ],
    )
    def test_is_read_up_to_its_limit_and_no_further(
        self, app: FastAPI, method: str, path: str, bytes_max: int
    ) -> None:
        for headers in ({}, {"content-length": str(bytes_max + 1)}):
            body = Endless()
            answer = ask(app, method, path, content=aiter(body), headers=headers)
            assert (answer.status_code, problem_of(answer)) == (413, "too-large")
            assert str(bytes_max) in answer.json()["detail"]
            assert body.taken <= (0 if headers else bytes_max + 65_536)

    def test_of_just_the_limit_is_read(self, app: FastAPI) -> None:
        body = b'{"onHand":5}'.ljust(BODY_BYTES_MAX)
        headers = {"content-type": "application/json"}
        answer = ask(app, "PUT", "/api/stock/MUG", content=body, headers=headers)
        assert answer.status_code == 200
        body = b"MUG,7\n".ljust(CSV_BYTES_MAX, b"\n")
        assert ask(app, "POST", "/api/stock:import", content=body).status_code == 200


OWN = ("127.0.0.1:8080", "localhost:8080", "LOCALHOST", "[::1]:8080", "10.0.0.7", "[fe80::1]")


class TestPagesOfOthers:
    @pytest.mark.parametrize(
        "host", ["evil.example", "evil.example:8080", "localhost.evil.example", "127.0.0.1.x", ""]
    )
    def test_cannot_read_through_a_name_of_their_own(self, app: FastAPI, host: str) -> None:
        answer = ask(app, "GET", "/api/stock", headers={"host": host})
        assert (answer.status_code, problem_of(answer)) == (403, "foreign")

    @pytest.mark.parametrize("host", OWN)
    @pytest.mark.parametrize(
        "origin", ["https://evil.example", "null", "http://localhost:3000", "http://127.0.0.1"]
    )
    def test_cannot_write(self, app: FastAPI, host: str, origin: str) -> None:
        headers = {"host": host, "origin": origin, "content-type": "text/plain"}
        answer = ask(app, "POST", "/api/stock:import", content=b"MUG,1", headers=headers)
        assert (answer.status_code, problem_of(answer)) == (403, "foreign")
        assert ask(app, "GET", "/api/stock").json()["stock"] == []

    @pytest.mark.parametrize("host", OWN)
    def test_are_not_our_own(self, app: FastAPI, host: str) -> None:
        headers = {"host": host, "origin": f"http://{host}"}
        answer = ask(app, "POST", "/api/stock:import", content=b"MUG,1", headers=headers)
        assert answer.status_code == 200
        assert ask(app, "GET", "/docs", headers={"host": host}).status_code == 200


class TestADependencyThatIsAway:
    @pytest.mark.parametrize(
        ("error", "kind", "retry_after"),
        [
            (Unavailable("PostgreSQL is away"), "unavailable", "1"),
            (OutcomeUnknown("PostgreSQL went away"), "outcome-unknown", None),
        ],
    )
    def test_says_try_again_only_where_nothing_was_done(
        self, error: Exception, kind: str, retry_after: str | None
    ) -> None:
        app = web_app("away", {})

        @app.post("/change")
        def change() -> None:  # pyright: ignore[reportUnusedFunction]
            raise error

        answer = ask(app, "POST", "/change")
        assert (answer.status_code, problem_of(answer)) == (503, kind)
        assert answer.headers.get("retry-after") == retry_after
        assert ("look before you repeat" in answer.json()["detail"]) == (retry_after is None)
