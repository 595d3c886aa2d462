"""The other services do what their OpenAPI documents say, whatever they are asked."""

from collections.abc import Iterator
from contextlib import closing
from threading import Thread

import pytest

from orderstream.flow import SCHEMAS
from orderstream.local.processes import free_port
from orderstream.runtime.database import Database
from orderstream.runtime.server import WebServer, run
from orderstream.runtime.settings import Settings
from orderstream.runtime.web import web_app
from orderstream.wiring.notification import sending
from orderstream.wiring.stages import stage_parts
from tests.fuzzing import fuzz
from tests.ports import own_port
from tests.waiting import until

STATUSES = {
    "inventory": {"PUT /api/stock/{sku}": {200, 422}, "POST /api/stock:import": {200, 422}},
    "notification": {
        "GET /api/notifications": {200, 422},
        "GET /api/notifications/preview": {200, 422},
        "PUT /api/notifications/opt-outs/{userId}": {200, 422},
    },
    "analytics": {"GET /api/analytics/timeseries": {200, 422}, "GET /api/analytics/top": {200}},
}


@pytest.fixture
def url(request: pytest.FixtureRequest, dsn: str) -> Iterator[str]:
    """One service's API on a port, over a database without any rows."""
    with closing(Database(dsn, SCHEMAS[request.param])) as database:
        app = web_app(request.param, {"store": database.ping})
        routes = (
            sending(Settings(), database).routes
            if request.param == "notification"
            else stage_parts(request.param, Settings(), database).routes
        )
        assert routes is not None
        app.include_router(routes)
        port = own_port()
        server = WebServer(app, "127.0.0.1", port)
        serving = Thread(target=run, args=(server.serve,))
        serving.start()
        until(lambda: free_port(port) != port, what="it listens")
        yield f"http://127.0.0.1:{port}"
        server.stop()
        serving.join(10)


class TestAService:
    @pytest.mark.parametrize(("url", "statuses"), STATUSES.items(), indirect=["url"])
    def test_answers_as_its_document_says(self, url: str, statuses: dict[str, set[int]]) -> None:
        seen = fuzz(url, 40)
        for operation, some in statuses.items():
            assert some <= seen[operation]
