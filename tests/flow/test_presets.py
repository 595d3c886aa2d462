"""Each topology that others run in, with records and requests as they have them, and no code."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from orderstream.cli.settings import PRESETS, preset, presets
from orderstream.runtime.admin import Admin
from orderstream.runtime.settings import Settings
from orderstream.runtime.stage import Output
from tests.flow.installation import SERVICES, Installation, Load, installation
from tests.kafka.topics import put, read
from tests.own_redis import OwnRedis
from tests.ports import own_port
from tests.test_documented import TOP
from tests.waiting import until

CURL = {"order_id": "1002", "user_id": "u1", "item": "laptop", "quantity": 1}


@contextmanager
def topology(name: str, redis_url: str = "") -> Generator[Installation]:
    """Run what the preset says, but on ports that are free."""
    with installation(
        "--quiet",
        ORDERSTREAM_PRESET=name,
        ORDERSTREAM_RETRY_BACKOFF="0.1",
        REDIS_URL=redis_url,
    ) as running:
        yield running


def settings_of(running: Installation) -> Settings:
    kafka = f"127.0.0.1:{running.env['ORDERSTREAM_PORT_KAFKA']}"
    found = preset(running.env["ORDERSTREAM_PRESET"]) | running.env
    return Settings.load(found | {"KAFKA_BOOTSTRAP_SERVERS": kafka})


def published(running: Installation, topic: str, key: str) -> list[Any]:
    """Return what a `read_committed` reader sees of an order in a topic, once there is any."""

    def look() -> list[Any]:
        found = read(settings_of(running), topic)
        return [json.loads(one.value() or b"") for one in found if one.key() == key.encode()]

    return until(look, what=f"{key} in {topic}")


def produce(running: Installation, key: str, value: Any, **headers: bytes) -> None:
    """Publish an order as a program of others does."""
    settings = settings_of(running)
    raw = json.dumps(value).encode()
    put(settings, Output(settings.topic_order_created, key.encode(), raw, [*headers.items()]))


def available(running: Installation, sku: str) -> int:
    return running.http.get(f"{running.url('inventory')}/api/stock/{sku}").json()["available"]


def readers_of(running: Installation, prefix: str, topic: str) -> set[str]:
    """Return the services whose consumer groups, called by the prefix, have read of a topic."""
    admin = Admin(settings_of(running).kafka())
    return {
        name
        for name in SERVICES
        if any(at.committed is not None for at in admin.lag(f"{prefix}-{name}", [topic]))
    }


def verified(running: Installation) -> None:
    result = running.run("verify", "--json", "--wait", "60")
    assert result.returncode == 0, result.stdout + result.stderr


class TestOrderCreatedEvent:
    @pytest.fixture(scope="class")
    @classmethod
    def running(cls) -> Iterator[Installation]:
        with topology("order-created-event") as running:
            yield running

    def test_of_dotnet_is_consumed_in_the_background_and_reserved(
        self, running: Installation
    ) -> None:
        before = available(running, "P-1")
        event = {
            "OrderId": "8f14e45f-ceea-467f-a8f2-3b1c1c0b2d6e",
            "CustomerId": 42,
            "Items": [{"ProductId": "P-1", "Quantity": 2}, {"ProductId": "MUG", "Quantity": 1}],
            "TotalPrice": 19.90,
            "CreatedAt": "2026-11-21T08:57:49.1310390Z",
        }
        produce(running, event["OrderId"], event)
        page = running.decided(event["OrderId"])
        assert (page["status"], page["userId"]) == ("CONFIRMED", 42)
        assert page["items"] == [{"sku": "P-1", "qty": 2}, {"sku": "MUG", "qty": 1}]
        assert page["createdAt"] == "2026-11-21T08:57:49.131Z"
        assert available(running, "P-1") == before - 2

    def test_of_springs_json_serializer_is_too(self, running: Installation) -> None:
        event = {"orderId": "spring-1", "items": [{"productId": "RARE-1", "quantity": 99}]}
        produce(running, "spring-1", event, __TypeId__=b"shop.OrderCreatedEvent")
        assert running.decided("spring-1")["status"] == "REJECTED"
        (said,) = published(running, "inventory.rejected", "spring-1")
        assert (said["reason"], said["short"]) == ("OUT_OF_STOCK", ["RARE-1"])

    def test_is_the_order_that_its_key_names(self, running: Installation) -> None:
        produce(running, "by-key", {"ProductId": "P-1", "Quantity": 1})
        produce(running, "content", {"Content": '{"ProductId":"P-1","Quantity":1}'})
        assert running.decided("by-key")["status"] == "CONFIRMED"
        assert running.decided("content")["status"] == "CONFIRMED"

    def test_that_comes_twice_is_reserved_once(self, running: Installation) -> None:
        before = available(running, "P-1")
        for _ in range(2):
            produce(running, "twice", {"OrderId": "twice", "ProductId": "P-1", "Quantity": 3})
        until(lambda: len(published(running, "inventory.reserved", "twice")) == 2)
        assert available(running, "P-1") == before - 3

    def test_that_nobody_can_read_is_a_dead_letter_as_it_came(self, running: Installation) -> None:
        event = {"OrderId": "bad", "Items": [{"ProductId": "P-1", "Quantity": "two"}]}
        produce(running, "bad", event, __TypeId__=b"Shop.OrderCreatedEvent")
        assert published(running, "order-created-event.DLT", "bad") == [event]
        (letter,) = read(settings_of(running), "order-created-event.DLT")
        headers = dict(letter.headers() or ())
        assert headers["__TypeId__"] == b"Shop.OrderCreatedEvent"
        assert headers["kafka_dlt-original-topic"] == b"order-created-event"
        assert "whole number" in str(headers["kafka_dlt-exception-message"])
        assert running.decided("bad")["status"] == "FAILED"

    def test_is_what_our_own_api_publishes(self, running: Installation) -> None:
        assert running.place({"userId": 42, "items": [{"sku": "MUG", "qty": 2}]}).status_code == 202
        order = {"orderId": "ours", "productId": "P-1", "quantity": 2}
        assert running.place(order).status_code == 202
        assert running.decided("ours")["status"] == "CONFIRMED"
        (event,) = published(running, "order-created-event", "ours")
        assert event.pop("CreatedAt")
        assert event == {"OrderId": "ours", "Items": [{"ProductId": "P-1", "Quantity": 2}]}
        verified(running)


class TestOrdersAndNotifications:
    @pytest.fixture(scope="class")
    @classmethod
    def running(cls) -> Iterator[Installation]:
        with topology("orders-notifications") as running:
            yield running

    def statuses(self, running: Installation, order_id: str, count: int = 1) -> list[Any]:
        def look() -> list[Any] | None:
            said = published(running, "notifications", order_id)
            return said if len(said) >= count else None

        return until(look, what=f"{count} statuses of {order_id}")

    def test_an_order_of_the_api_is_told_as_it_was_and_what_became_of_it(
        self, running: Installation
    ) -> None:
        answer = running.http.post(f"{running.url('order')}/orders", json=CURL)
        assert (answer.status_code, answer.json()["orderId"]) == (202, "1002")
        (order,) = published(running, "orders", "1002")
        assert order.pop("created_at")
        assert order == CURL
        assert self.statuses(running, "1002") == [{"order_id": "1002", "status": "CONFIRMED"}]

    def test_an_order_of_another_producer_is_told_of(self, running: Installation) -> None:
        produce(running, "p-1", CURL | {"order_id": "p-1", "item": "RARE-1", "quantity": 99})
        assert self.statuses(running, "p-1") == [
            {"order_id": "p-1", "status": "REJECTED", "reason": "OUT_OF_STOCK"}
        ]
        produce(running, "p-2", CURL | {"order_id": "p-2", "item": "FAIL"})
        assert self.statuses(running, "p-2") == [{"order_id": "p-2", "status": "FAILED"}]
        produce(running, "p-3", {"order_id": "p-3"})
        assert self.statuses(running, "p-3") == [{"order_id": "p-3", "status": "FAILED"}]

    @pytest.mark.parametrize(("act", "status"), [("cancel", "CANCELLED"), ("fulfil", "FULFILLED")])
    def test_what_becomes_of_it_later_is_told_too(
        self, running: Installation, act: str, status: str
    ) -> None:
        running.http.post(f"{running.url('order')}/orders", json=CURL | {"order_id": act})
        running.decided(act)
        url = f"{running.url('order')}/api/orders/{act}/{act}"
        assert running.http.post(url, json={}).status_code == 200
        found = [said["status"] for said in self.statuses(running, act, 2)]
        assert found == ["CONFIRMED", status]

    def test_has_the_group_that_is_set(self, running: Installation) -> None:
        assert settings_of(running).kafka_auto_offset_reset == "earliest"
        assert readers_of(running, "orders", "orders") >= {"inventory", "view", "analytics"}

    def test_tells_of_each_order_once_whoever_crashes(self, running: Installation) -> None:
        with Load(running.url("order")) as load:
            for least in (100, 200):
                until(lambda least=least: len(load.accepted) > least, what="orders are accepted")
                os.kill(running.pid_of("inventory"), signal.SIGKILL)
        assert load.strange == []
        verified(running)  # It waits until all are decided.
        said = [
            (one.key() or b"").decode()
            for one in read(settings_of(running), "notifications")
            if (one.key() or b"").startswith(b"load-")
        ]
        assert Counter(said) == Counter(map(str, load.accepted))

    def test_the_order_service_runs_under_plain_uvicorn(self, running: Installation) -> None:
        with plain_uvicorn(running) as url:
            answer = running.http.post(
                f"{url}/orders", json=CURL | {"order_id": "uvicorn"}, headers={"Prefer": "wait=20"}
            )
            assert (answer.status_code, answer.json()["status"]) == (200, "CONFIRMED")
            assert self.statuses(running, "uvicorn") == [
                {"order_id": "uvicorn", "status": "CONFIRMED"}
            ]
            assert running.http.get(f"{url}/readyz").status_code == 200


@contextmanager
def plain_uvicorn(running: Installation, **more: str) -> Generator[str]:
    """Run the app as any other is run; a stream without an end does not hold up its end."""
    port, log = own_port(), running.home / "uvicorn.log"
    words = ["uvicorn", "orderstream.asgi:app", "--port", str(port)]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *words],
            env=running.env | more,
            cwd=running.home,
            stdout=output,
            stderr=output,
        )
    url = f"http://127.0.0.1:{port}"

    def is_ready() -> bool:
        assert process.poll() is None, log.read_text()
        try:
            return running.http.get(f"{url}/readyz").status_code == 200
        except httpx.TransportError:
            return False

    try:
        until(is_ready, what="the app is ready")
        with httpx.stream("GET", f"{url}/api/events", trust_env=False, timeout=20) as stream:
            assert stream.status_code == 200
            yield url
            process.terminate()
            assert process.wait(15) in (0, -signal.SIGTERM), log.read_text()
        assert "Traceback" not in log.read_text()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def test_under_plain_uvicorn_settings_that_are_wrong_stop_the_start(tmp_path: Path) -> None:
    wrong = {"ORDERSTREAM_PRESET": "no-such", "ORDERSTREAM_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "uvicorn", "orderstream.asgi:app", "--port", str(own_port())],
        env=os.environ | wrong,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 3
    assert "ORDERSTREAM_PRESET: there is no no-such, but order-created-event, " in done.stderr
    assert "Traceback" not in done.stderr


class TestOrderAndInventory:
    @pytest.fixture(scope="class")
    @classmethod
    def running(cls) -> Iterator[Installation]:
        with topology("order-inventory") as running:
            yield running

    def test_reserves_or_rejects_or_parks(self, running: Installation) -> None:
        order = {"userId": 42, "items": [{"sku": "ABC-001", "qty": 2}]}
        accepted = running.place(order)
        assert accepted.status_code == 202
        number = accepted.json()["orderId"]
        (created,) = published(running, "order.created", str(number))
        assert created["items"] == order["items"]
        (said,) = published(running, "inventory.reserved", str(number))
        assert (said["orderId"], said["userId"]) == (number, 42)
        running.place({"orderId": "much", "productId": "RARE-1", "quantity": 99})
        assert published(running, "inventory.rejected", "much")
        running.place({"orderId": "drill", "productId": "FAIL", "quantity": 1})
        assert published(running, "order.created.DLT", "drill")
        assert running.decided("drill")["status"] == "FAILED"
        verified(running)


class TestOneOrderTopic:
    @pytest.fixture(scope="class")
    @classmethod
    def redis(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnRedis]:
        with OwnRedis.at_hand(tmp_path_factory.mktemp("redis")) as redis:
            yield redis

    @pytest.fixture(scope="class")
    @classmethod
    def running(cls, redis: OwnRedis) -> Iterator[Installation]:
        with topology("order-topic", redis_url=redis.url) as running:
            yield running

    def test_is_read_by_three_groups_themselves(self, running: Installation) -> None:
        order = {"orderId": "1001", "productId": "P-1", "quantity": 2}
        assert running.place(order).status_code == 202
        produce(running, "theirs", order | {"orderId": "theirs"})
        assert running.decided("1001")["status"] == "CONFIRMED"
        assert running.decided("theirs")["status"] == "CONFIRMED"
        (record,) = published(running, "order-topic", "1001")
        assert record.pop("createdAt")
        assert record == order
        verified(running)
        wanted = {"inventory", "notification", "analytics"}
        assert readers_of(running, "orderstream", "order-topic") >= wanted

    @pytest.mark.parametrize("order_id", ["1001", "theirs"])
    def test_tells_the_customer_that_it_came_in_and_what_became_of_it(
        self, running: Installation, order_id: str
    ) -> None:
        url = f"{running.url('notification')}/api/notifications?orderId={order_id}"
        found = until(
            lambda: said if len(said := running.http.get(url).json()["notifications"]) > 1 else None
        )
        assert sorted(one["text"] for one in found) == [
            f"Order {order_id} has come in: 2 x P-1.",
            f"Order {order_id} is confirmed: 2 x P-1.",
        ]

    def test_has_redis_at_the_door(self, running: Installation, redis: OwnRedis) -> None:
        order: dict[str, Any] = {"orderId": "last", "productId": "RARE-1", "quantity": 3}
        assert [running.place(order).status_code for _ in range(2)] == [202, 202]
        assert running.decided("last")["status"] == "CONFIRMED"
        assert redis.client.dbsize() > 0  # The claim is known there.

        def refused() -> bool:
            late = {"userId": 42, "items": [{"sku": "RARE-1", "qty": 1}]}
            return running.place(late).status_code == 409

        until(refused, what="what is gone is refused")
        verified(running)


class TestPresets:
    def test_are_where_the_readme_says(self) -> None:
        text = (TOP / "docs" / "topologies.md").read_text("utf-8")
        for name in presets():
            assert f"`{name}`" in text
            assert (TOP / "presets" / f"{name}.env").resolve() == PRESETS / f"{name}.env"
            assert (PRESETS / f"{name}.env").read_text("utf-8").startswith("# ")

    @pytest.mark.parametrize("name", presets())
    def test_set_only_settings_that_there_are_to_values_that_are_right(self, name: str) -> None:
        known = {str(field.validation_alias) for field in Settings.model_fields.values()}
        assert preset(name).keys() <= known
        Settings.load(preset(name))

    def test_have_the_ports_and_topics_of_their_topologies(self) -> None:
        shop = Settings.load(preset("orders-notifications"))
        assert (shop.port_order, shop.topic_order_created) == (8001, "orders")
        assert shop.topic_order_status == "notifications"
        ours = Settings.load(preset("order-inventory"))
        assert (ours.port_order, ours.port_inventory, ours.port_notification) == (8080, 8082, 8083)
        assert ours.topics == Settings.load({}).topics
        one = Settings.load(preset("order-topic"))
        ports = [one.port_order, one.port_inventory, one.port_notification, one.port_analytics]
        assert ports == [8081, 8082, 8083, 8084]
        assert one.redis_url is not None
        assert one.redis_url.get_secret_value() == "redis://127.0.0.1:6379/0"
        assert Settings.load(preset("order-created-event")).order_format.startswith("order-created")
