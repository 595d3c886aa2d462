"""What clients may see and do of each other's orders (nothing), on real services with keys."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from orderstream.runtime.keys import new_key
from orderstream.runtime.settings import Settings
from tests.conftest import database_copy, own_settings
from tests.kafka.topics import create, read
from tests.orders.service import environment, problem_of
from tests.ports import own_port
from tests.security.running import run, serving
from tests.waiting import together, until

MADE = {
    "shop": new_key("shop", "client"),
    "rival": new_key("rival", "client"),
    "boss": new_key("boss", "operator"),
    "board": new_key("board", "viewer"),
    "greedy": new_key("greedy", "client"),
}


class House:
    """The running services, and a client of each key."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.settings, self.folder = settings, folder
        self.addresses = {name: settings.address(name) for name in ("order", "inventory", "view")}
        self._signed = {
            name: httpx.Client(
                base_url=self.addresses["order"],
                headers={"authorization": f"Bearer {key}"},
                timeout=15,
                trust_env=False,
            )
            for name, (key, _) in MADE.items()
        }

    def __getattr__(self, name: str) -> httpx.Client:
        return self._signed[name]

    def close(self) -> None:
        for client in self._signed.values():
            client.close()

    def place(self, who: str, order_id: str | None = None, **headers: str) -> httpx.Response:
        order: dict[str, Any] = {"userId": 7, "items": [{"sku": "MUG", "qty": 1}]}
        if order_id is not None:
            order["orderId"] = order_id
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self._signed[who].post("/api/orders", json=order, headers=named)

    def command(self, who: str, *arguments: str) -> Any:
        given = environment(self.settings) | {"ORDERSTREAM_API_KEY": MADE[who][0]}
        return run(given, *arguments, folder=self.folder)


@pytest.fixture(scope="module")
def house(
    kafka: str, template_dsn: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[House]:
    with ExitStack() as stack:
        dsn = stack.enter_context(database_copy(template_dsn))
        names = ("ORDER", "INVENTORY", "VIEW")
        given = {f"ORDERSTREAM_PORT_{n}": str(p) for p, n in enumerate(names, own_port())}
        given["ORDERSTREAM_API_KEYS"] = ",".join(str(entry) for _, entry in MADE.values())
        given["ORDERSTREAM_RATE_LIMIT"] = "20"
        settings = create(own_settings(kafka, dsn, **given))
        house = House(settings, tmp_path_factory.mktemp("house"))
        stack.callback(house.close)
        stack.enter_context(serving(environment(settings), house.addresses, house.folder))
        stocked = httpx.put(
            f"{house.addresses['inventory']}/api/stock/MUG",
            json={"onHand": 1000},
            headers={"x-api-key": MADE["boss"][0]},
        )
        assert stocked.status_code == 200
        yield house


class TestAnOrder:
    def test_is_seen_by_its_owner_and_those_who_see_all(self, house: House) -> None:
        page = house.place("shop", "seen", prefer="wait=10").json()
        assert (page["status"], page["owner"]) == ("CONFIRMED", "shop")
        for client in (house.shop, house.boss, house.board):
            assert client.get("/api/orders/seen").json()["owner"] == "shop"
            listed = client.get("/api/orders?userId=7&limit=500").json()["orders"]
            assert "seen" in [order["orderId"] for order in listed]

    def test_is_as_if_it_were_not_there_to_others(self, house: House) -> None:
        house.place("shop", "hidden", prefer="wait=10")
        unknown = problem_of(house.rival.get("/api/orders/no-such"))
        for answer in (
            house.rival.get("/api/orders/hidden"),
            house.rival.get("/api/orders/hidden/events"),
            house.rival.post("/api/orders/hidden/cancel"),
        ):
            assert problem_of(answer) == unknown == (404, "unknown-order")
            assert "MUG" not in answer.text
        assert house.rival.get("/api/orders?userId=7").json()["orders"] == []
        assert house.boss.get("/api/orders/hidden").json()["status"] == "CONFIRMED"

    def test_is_cancelled_by_its_owner_by_name(self, house: House) -> None:
        house.place("shop", "mine", prefer="wait=10")
        assert house.shop.post("/api/orders/mine/cancel", json={}).status_code == 200
        cancelled = read(house.settings, house.settings.topics.order_cancelled)
        (event,) = [json.loads(r.value() or b"") for r in cancelled if r.key() == b"mine"]
        assert event["by"] == "shop"

    def test_is_fulfilled_by_an_operator_alone_by_name(self, house: House) -> None:
        house.place("shop", "sent", prefer="wait=10")
        for client in (house.shop, house.board):
            refused = problem_of(client.post("/api/orders/sent/fulfil"))
            assert refused == (403, "forbidden")
        assert house.boss.post("/api/orders/sent/fulfil").status_code == 200

        def by() -> list[str]:
            timeline = house.shop.get("/api/orders/sent").json()["timeline"]
            return [entry["by"] for entry in timeline if entry["type"] == "order.fulfilled"]

        assert until(by) == ["boss"]

    def test_tells_its_events_to_its_owner(self, house: House) -> None:
        house.place("shop", "told", prefer="wait=10")
        with house.shop.stream("GET", "/api/orders/told/events") as events:
            assert events.status_code == 200
            assert any("order.created" in line for line in events.iter_lines())
        assert problem_of(house.shop.get("/api/events")) == (403, "forbidden")


class TestClaims:
    def test_an_id_of_another_s_order_is_refused_without_its_contents(self, house: House) -> None:
        first = house.place("shop", "taken")
        assert first.status_code == 202
        assert house.place("shop", "taken").headers["idempotent-replayed"] == "true"
        answer = house.place("rival", "taken")
        assert problem_of(answer) == (409, "conflict")
        assert "shop" not in answer.text
        records = read(house.settings, house.settings.topics.order_created)
        assert len([r for r in records if r.key() == b"taken"]) == 1

    def test_an_idempotency_key_is_each_client_s_own(self, house: House) -> None:
        ids = [house.place(who, idempotency_key="k-1").json()["orderId"] for who in MADE_CLIENTS]
        again = [house.place(who, idempotency_key="k-1").json()["orderId"] for who in MADE_CLIENTS]
        assert ids == again
        assert ids[0] != ids[1]

    def test_an_idempotency_key_cannot_be_written_as_another_s(self, house: House) -> None:
        mine = house.place("shop", idempotency_key="a").json()["orderId"]
        forged = house.place("rival", idempotency_key="shop:a").json()["orderId"]
        assert forged != mine

    def test_of_two_who_want_an_id_at_once_one_gets_it(self, house: House) -> None:
        answers = together(
            [lambda who=who: house.place(who, "race") for who in (*MADE_CLIENTS, *MADE_CLIENTS)]
        )
        statuses = sorted(a.status_code for a in answers if isinstance(a, httpx.Response))
        assert statuses == [202, 202, 409, 409]


MADE_CLIENTS = ("shop", "rival")


class TestTheLimit:
    def test_is_said_with_when_to_come_again_and_is_each_key_s_own(self, house: House) -> None:
        answers = together([lambda: house.place("greedy") for _ in range(40)])
        found = [a for a in answers if isinstance(a, httpx.Response)]
        refused = [a for a in found if a.status_code == 429]
        assert len(found) == 40
        assert 1 <= len(refused) <= 20
        assert problem_of(refused[0]) == (429, "rate-limited")
        assert int(refused[0].headers["retry-after"]) >= 1
        assert house.place("rival").status_code == 202


class TestTheCommand:
    def test_signs_in_with_the_key_that_is_set(self, house: House) -> None:
        house.place("shop", "by-command", prefer="wait=10")
        assert "by-command" in house.command("shop", "order", "get", "by-command").stdout
        for who, arguments, code in (
            ("rival", ["order", "get", "by-command"], 1),
            ("boss", ["stock", "list"], 0),
            ("shop", ["stock", "list"], 1),
            ("board", ["stock", "set", "MUG", "5"], 1),
            ("greedy", ["load", "--orders", "25", "--url", house.addresses["order"]], 0),
        ):
            ended = house.command(who, *arguments)
            assert ended.returncode == code, (who, arguments, ended)
        without = run(environment(house.settings), "order", "list", folder=house.folder)
        assert without.returncode == 1
        assert "API key" in without.stderr
