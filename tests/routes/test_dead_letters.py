"""Dead letters over HTTP, on a real broker."""

from collections.abc import Callable
from urllib.parse import quote

import httpx
import pytest

from orderstream.dead_letters.api import dead_letter_routes
from orderstream.runtime.settings import Settings
from orderstream.runtime.web import web_app
from orderstream.wiring.dead_letters import dead_letters
from tests.conftest import SettingsOf
from tests.kafka.test_redrive import put_back, springs
from tests.kafka.topics import create, put, read
from tests.routes.asking import ask

Http = Callable[..., httpx.Response]


@pytest.fixture
def settings(settings_of: SettingsOf) -> Settings:
    """Three dead letters."""
    settings = create(settings_of())
    put(settings, *(springs(settings, number) for number in (1, 2, 3)))
    return settings


@pytest.fixture
def http(settings: Settings) -> Http:
    app = web_app("test", {})
    app.include_router(dead_letter_routes(dead_letters(settings)))
    return lambda method, path, **options: ask(app, method, path, **options)


class TestDeadLetters:
    def test_lists_shows_and_redrives(self, settings: Settings, http: Http) -> None:
        page = http("GET", "/api/dead-letters", params={"limit": 2}).json()
        assert (len(page["deadLetters"]), page["more"]) == (2, True)
        (one,) = http("GET", "/api/dead-letters", params={"order": "1"}).json()["deadLetters"]
        where = f"/api/dead-letters/{quote(one['place'])}"
        assert http("GET", where).json()["value"].startswith('{"orderId":1')
        changed = http("POST", where + "/redrive", json={"set": {"items[0].sku": "MUG"}})
        assert changed.json() == {"redriven": 1, "before": 0}
        assert http("POST", where + "/redrive", json={}).json() == {"redriven": 0, "before": 1}
        assert http("GET", where).json()["handled"]["edited"] is True
        (record,) = read(settings, settings.topics.order_created)
        assert b"MUG" in (record.value() or b"")

    def test_redrives_and_discards_many(self, settings: Settings, http: Http) -> None:
        (one,) = http("GET", "/api/dead-letters", params={"order": "1"}).json()["deadLetters"]
        where = f"/api/dead-letters/{quote(one['place'])}/discard"
        assert http("POST", where, json={"note": "a test"}).json() == {"discarded": 1, "before": 0}
        many = "/api/dead-letters:redrive"
        assert http("POST", many, json={"dryRun": True}).json()["wouldRedrive"] == 2
        assert http("POST", many, json={"reason": "boom"}).json()["redriven"] == 2
        assert put_back(settings) == ["2", "3"]

    def test_discards_those_that_fit_and_says_why(self, settings: Settings, http: Http) -> None:
        many = "/api/dead-letters:discard"
        body = {"order": "2", "note": "a test"}
        dry = http("POST", many, json={**body, "dryRun": True}).json()
        assert dry == {"discarded": 0, "wouldDiscard": 1}
        assert http("POST", many, json=body).json() == {"discarded": 1, "before": 0}
        assert http("POST", many, json={"note": "the rest"}).json()["discarded"] == 2
        listed = http("GET", "/api/dead-letters", params={"order": "2", "handled": True}).json()
        assert listed["deadLetters"][0]["handled"]["note"] == "a test"
        assert put_back(settings) == []

    def test_dry_names_those_that_have_nowhere_to_go(self, settings: Settings, http: Http) -> None:
        put(settings, springs(settings, 4)._replace(headers=[]))
        dry = http("POST", "/api/dead-letters:redrive", json={"dryRun": True}).json()
        assert (dry["redriven"], dry["wouldRedrive"], len(dry["nowhere"])) == (0, 3, 1)
        assert put_back(settings) == []

    @pytest.mark.parametrize("path", [":redrive", ":discard"])
    def test_a_filter_with_a_slip_of_the_pen_fits_nothing(
        self, settings: Settings, http: Http, path: str
    ) -> None:
        body = {"ordr": "2"} if path == ":redrive" else {"ordr": "2", "note": "a test"}
        answer = http("POST", f"/api/dead-letters{path}", json=body)
        assert (answer.status_code, answer.json()["field"]) == (422, "ordr")
        assert len(http("GET", "/api/dead-letters").json()["deadLetters"]) == 3
        assert put_back(settings) == []

    @pytest.mark.parametrize(
        ("method", "path", "body", "status"),
        [
            ("GET", "/api/dead-letters/nowhere", None, 422),
            ("GET", "/api/dead-letters/x.DLT[0]@1", None, 404),
            ("GET", "/api/dead-letters?topic=x", None, 404),
            ("GET", "/api/dead-letters?limit=0", None, 422),
            ("POST", "/api/dead-letters/x.DLT[0]@1/discard", {"note": ""}, 422),
            ("POST", "/api/dead-letters:discard", {}, 422),
            ("POST", "/api/dead-letters/x.DLT[0]@1/redrive", {"topic": "x"}, 422),
        ],
    )
    def test_refuses_with_a_problem(
        self, http: Http, method: str, path: str, body: object, status: int
    ) -> None:
        answer = http(method, path, json=body)
        assert (answer.status_code, answer.json()["status"]) == (status, status)
