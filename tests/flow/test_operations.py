"""What an operator does to a whole installation that runs: put right what failed, read again."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from orderstream.runtime.settings import Settings
from tests.flow.installation import Installation, installation
from tests.kafka.topics import read
from tests.waiting import until


@pytest.fixture(scope="module")
def running() -> Iterator[Installation]:
    with installation() as running:
        yield running


def verified(running: Installation) -> None:
    result = running.run("verify", "--json", "--wait", "60")
    assert result.returncode == 0, result.stdout + result.stderr


def command(running: Installation, *arguments: str) -> str:
    result = running.run(*arguments)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def failed(running: Installation, order_id: str, sku: str = "FAIL") -> str:
    """Place an order that fails, and return the place of its dead letter."""
    running.place({"orderId": order_id, "productId": sku, "quantity": 2})
    assert running.decided(order_id)["status"] == "FAILED"
    listed = command(running, "dlt", "list", "--order", order_id, "--json")
    return json.loads(listed)["place"]


def page_that(running: Installation, order_id: str, status: str) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        page = running.page(order_id)
        return page if page and page["status"] == status else None

    return until(look, what=f"order {order_id} is {status}")


def notices(running: Installation, order_id: str) -> list[str]:
    url = f"{running.url('notification')}/api/notifications"
    found = running.http.get(url, params={"orderId": order_id}).json()["notifications"]
    return sorted(notice["eventId"] for notice in found)


class TestADeadLetter:
    def test_is_changed_redriven_and_confirmed(self, running: Installation) -> None:
        place = failed(running, "mended")
        assert "drill SKU FAIL" in command(running, "dlt", "show", place)
        redriven = command(running, "dlt", "redrive", place, "--set", "items[0].sku=MUG")
        assert redriven == "1 redriven\n"
        page = page_that(running, "mended", "CONFIRMED")
        types = [event["type"] for event in page["timeline"]]
        assert types == ["order.created", "order.failed", "inventory.reserved"]
        verified(running)
        summary = running.http.get(f"{running.url('analytics')}/api/analytics/summary").json()
        assert summary["outcomes"]["FAILED"] == 0
        assert notices(running, "mended") == ["mended:inventory.reserved", "mended:order.failed"]
        assert command(running, "dlt", "list", "--json") == ""

    def test_is_rejected_when_there_is_too_little(self, running: Installation) -> None:
        place = failed(running, "short")
        changes = ("--set", "items[0].sku=RARE-1", "--set", "items[0].qty=99")
        command(running, "dlt", "redrive", place, *changes)
        assert page_that(running, "short", "REJECTED")["short"] == ["RARE-1"]
        verified(running)

    def test_that_fails_again_is_open_again_with_its_history(self, running: Installation) -> None:
        first = failed(running, "again")
        command(running, "dlt", "redrive", "--order", "again")

        def second() -> dict[str, Any] | None:
            listed = command(running, "dlt", "list", "--order", "again", "--json")
            return json.loads(listed) if listed else None

        found = until(second, what="it failed again")
        assert found["place"] != first
        assert found["times"] == 2
        verified(running)
        command(running, "dlt", "discard", found["place"], "--note", "a test")
        assert page_that(running, "again", "FAILED")
        verified(running)

    def test_is_redriven_over_http(self, running: Installation) -> None:
        place = failed(running, "by-http")
        where = f"{running.url('order')}/api/dead-letters/{place}/redrive"
        answer = running.http.post(where, json={"set": {"items[0].sku": "MUG"}})
        assert (answer.status_code, answer.json()) == (200, {"redriven": 1, "before": 0})
        page_that(running, "by-http", "CONFIRMED")


@pytest.fixture(scope="module")
def loaded(running: Installation) -> Installation:
    """The installation with some hundred orders."""
    command(running, "load", "--orders", "300", "--skus", "3", "--until-decided")
    verified(running)
    return running


class TestAReplay:
    def test_is_refused_while_the_service_runs(self, running: Installation) -> None:
        result = running.run("replay", "view", "--to", "beginning", "--yes")
        assert result.returncode == 1
        assert "view runs: " in result.stderr
        planned = command(running, "replay", "view", "--to", "beginning", "--dry-run", "--json")
        assert json.loads(planned)["done"] is False

    @pytest.mark.parametrize("service", ["view", "analytics", "notification", "inventory"])
    def test_changes_nothing_that_anybody_sees(self, loaded: Installation, service: str) -> None:
        running = loaded
        before, pid = seen(running), running.pid_of(service)
        options = ("--to", "beginning", "--restart", "--yes", "--json")
        done = json.loads(command(running, "replay", service, *options))
        assert sum(partition["again"] for partition in done["partitions"]) > 300
        assert running.pid_of(service) != pid
        verified(running)
        assert seen(running) == before

    def test_without_up_has_nobody_to_restart(self, running: Installation) -> None:
        elsewhere = {**running.env, "ORDERSTREAM_HOME": str(running.home / "elsewhere")}
        config = running.run("config", "--json").stdout.splitlines()
        known = {row["name"]: row["value"] for row in map(json.loads, config)}
        elsewhere["KAFKA_BOOTSTRAP_SERVERS"] = known["KAFKA_BOOTSTRAP_SERVERS"]
        elsewhere["DATABASE_URL"] = known["DATABASE_URL"]
        other = Installation(running.home, elsewhere, running.process, running.log)
        result = other.run("replay", "view", "--to", "beginning", "--restart", "--yes")
        assert result.returncode == 1
        assert "stop view yourself" in result.stderr


def seen(running: Installation) -> dict[str, Any]:
    """Return all that the APIs answer, and how often each topic says each thing."""
    get = running.http.get
    orders = running.url("order")
    port = running.env["ORDERSTREAM_PORT_KAFKA"]
    kafka = Settings.load({"KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{port}"})
    listed = command(running, "order", "list", "--all", "--json").splitlines()
    ids = [json.loads(line)["orderId"] for line in listed]
    topics = ("inventory.reserved", "inventory.rejected", "order.created.DLT")
    return {
        "list": listed,
        "pages": [get(f"{orders}/api/orders/{order_id}").json() for order_id in ids[:50]],
        "summary": get(f"{running.url('analytics')}/api/analytics/summary").text,
        "top": get(f"{running.url('analytics')}/api/analytics/top").text,
        "stock": get(f"{running.url('inventory')}/api/stock").text,
        "notices": get(
            f"{running.url('notification')}/api/notifications", params={"limit": 500}
        ).text,
        "log": [len(read(kafka, name)) for name in topics],
    }
