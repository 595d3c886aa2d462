"""`order`: what is sent, and how the answers are read."""

import io
import json
from typing import Any

import httpx
import pytest
import typer

from orderstream.cli import orders
from orderstream.contract.errors import Unavailable
from tests.cli.test_output import an_api


def a_page(status: str, *events: str) -> dict[str, Any]:
    """Return an order's page with these events."""
    timeline = [{"eventId": f"1:{event}", "type": event} for event in events]
    return {"orderId": 1, "status": status, "timeline": timeline}


class TestParseItem:
    @pytest.mark.parametrize(
        ("text", "item"),
        [("ABC-001=2", ("ABC-001", 2)), ("a=b=3", ("a=b", 3)), ("MUG=0", ("MUG", 0))],
    )
    def test_reads_sku_and_quantity(self, text: str, item: tuple[str, int]) -> None:
        assert orders.parse_item(text) == item

    @pytest.mark.parametrize("text", ["", "MUG", "MUG=", "=2", "MUG=two", "MUG=-1", "MUG=²"])
    def test_says_how_to_write_one(self, text: str) -> None:
        with pytest.raises(typer.BadParameter, match="write SKU=QTY"):
            orders.parse_item(text)


class TestNumberOrText:
    @pytest.mark.parametrize(
        ("text", "meant"),
        [
            ("42", 42),
            ("0", 0),
            ("007", "007"),
            ("u1", "u1"),
            ("-1", "-1"),
            ("9007199254740991", 9007199254740991),
            ("9007199254740992", "9007199254740992"),
            ("٣", "٣"),
        ],
    )
    def test_only_what_reads_back_the_same_is_a_number(self, text: str, meant: int | str) -> None:
        assert orders.number_or_text(text) == meant


class TestOrderBody:
    def test_options_make_an_order(self) -> None:
        body = orders.order_body("42", ["ABC-001=2", "MUG=1"], "1001", None)
        assert json.loads(body) == {
            "userId": 42,
            "items": [{"sku": "ABC-001", "qty": 2}, {"sku": "MUG", "qty": 1}],
            "orderId": 1001,
        }

    def test_without_an_id_the_service_gives_one(self) -> None:
        assert "orderId" not in json.loads(orders.order_body("u1", ["MUG=1"], None, None))

    def test_a_file_is_sent_as_it_is(self, monkeypatch: pytest.MonkeyPatch) -> None:
        given = b'{"any": "shape"}'
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(given)))
        assert orders.order_body(None, [], None, "-") == given

    @pytest.mark.parametrize(
        ("user", "items", "file"),
        [(None, ["MUG=1"], None), ("42", [], None), ("42", [], "-"), (None, [], "/not/there")],
    )
    def test_says_what_is_missing_or_too_much(
        self, user: str | None, items: list[str], file: str | None
    ) -> None:
        with pytest.raises(typer.BadParameter):
            orders.order_body(user, items, None, file)


class TestParseTime:
    @pytest.mark.parametrize(
        ("text", "sent"),
        [
            (None, None),
            ("2026-11-21", "2026-11-21T00:00:00"),
            ("2026-11-21T10:00:00Z", "2026-11-21T10:00:00+00:00"),
        ],
    )
    def test_reads_iso_8601(self, text: str | None, sent: str | None) -> None:
        assert orders.parse_time(text, "--from") == sent

    def test_names_the_option_at_fault(self) -> None:
        with pytest.raises(typer.BadParameter, match="--to yesterday"):
            orders.parse_time("yesterday", "--to")


class TestSaidOf:
    def test_says_why_an_order_was_rejected(self) -> None:
        order = {"orderId": 1, "status": "REJECTED", "reason": "OUT_OF_STOCK", "short": ["A", "B"]}
        assert orders.said_of(order) == "1: REJECTED (OUT_OF_STOCK: A, B)"

    def test_says_no_more_of_a_confirmed_one(self) -> None:
        assert orders.said_of({"orderId": "x", "status": "CONFIRMED"}) == "x: CONFIRMED"


class TestFind:
    def test_follows_the_cursor_up_to_the_limit(self, capsys: pytest.CaptureFixture[str]) -> None:
        asked: list[dict[str, str]] = []

        def answer(request: httpx.Request) -> httpx.Response:
            asked.append(dict(request.url.params))
            found = [{"orderId": n} for n in range(int(request.url.params["limit"]))]
            return httpx.Response(200, json={"orders": found, "nextCursor": "more"})

        assert len(list(orders.find(an_api(answer), {"status": None}, 700))) == 700
        assert asked == [{"limit": "500"}, {"limit": "200", "cursor": "more"}]
        assert "more than these 700" in capsys.readouterr().err

    def test_all_ends_with_the_last_page(self) -> None:
        cursors = iter(["more", None])

        def answer(_request: httpx.Request) -> httpx.Response:
            return httpx.Response(200, json={"orders": [{}], "nextCursor": next(cursors)})

        assert len(list(orders.find(an_api(answer), {}, None))) == 2


class TestPages:
    @pytest.fixture(autouse=True)
    def _no_pause(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(orders, "LOOK_EVERY_S", 0.0)

    def test_yields_each_change_up_to_the_decision(self) -> None:
        pending, decided = a_page("PENDING", "created"), a_page("CONFIRMED", "created", "reserved")
        answers = iter(
            [
                httpx.Response(404, json={"detail": "There is no order 1 (yet)."}),
                httpx.Response(200, json=pending),
                httpx.Response(200, json=pending),
                httpx.Response(200, json=decided),
            ]
        )
        assert list(orders.pages(an_api(lambda _: next(answers)), "1", 30)) == [pending, decided]

    def test_gives_up_on_an_order_that_stays_pending(self) -> None:
        api = an_api(lambda _: httpx.Response(200, json=a_page("PENDING")))
        with pytest.raises(Unavailable, match="order 1 is still PENDING after 0 s"):
            list(orders.pages(api, "1", 0.0))

    def test_gives_up_on_an_order_that_nobody_knows(self) -> None:
        api = an_api(lambda _: httpx.Response(404, json={"detail": "There is no order 1."}))
        with pytest.raises(Unavailable, match="order 1 has not been seen after 0 s"):
            list(orders.pages(api, "1", 0.0))

    def test_asks_for_an_id_of_any_characters(self) -> None:
        def answer(request: httpx.Request) -> httpx.Response:
            assert request.url.raw_path == b"/api/orders/a%2Fb%3Fc"
            return httpx.Response(200, json=a_page("FAILED"))

        assert len(list(orders.pages(an_api(answer), "a/b?c", 30))) == 1
