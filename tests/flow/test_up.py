"""What a new user does, by the README, against a whole installation."""

import json
import os
import signal
from collections.abc import Iterator

import pytest

from orderstream.contract.topics import Topics
from orderstream.flow import flow
from tests.flow.installation import Installation, Load, installation
from tests.waiting import until


@pytest.fixture(scope="module")
def running() -> Iterator[Installation]:
    with installation() as running:
        yield running


class TestAnOrder:
    @pytest.mark.parametrize(
        "order",
        [
            {"userId": 42, "items": [{"sku": "ABC-001", "qty": 2}]},
            {"orderId": "1001", "productId": "P-1", "quantity": 2},
            {"order_id": "1002", "user_id": "u1", "item": "laptop", "quantity": 1},
        ],
        ids=["items", "product", "item"],
    )
    def test_of_each_shape_is_confirmed_told_and_counted(
        self, running: Installation, order: dict[str, object]
    ) -> None:
        answer = running.place(order)
        assert answer.status_code == 202, answer.text
        order_id = answer.json()["orderId"]
        assert answer.headers["location"] == f"/api/orders/{order_id}"
        page = running.decided(order_id)
        assert page["status"] == "CONFIRMED"
        assert [event["type"] for event in page["timeline"]] == [
            "order.created",
            "inventory.reserved",
        ]
        notices = until(
            lambda: running.http.get(
                f"{running.url('notification')}/api/notifications", params={"orderId": order_id}
            ).json()["notifications"],
            what="the customer is told",
        )
        assert [notice["text"].startswith(f"Order {order_id} is confirmed") for notice in notices]
        top = until(
            lambda: running.http.get(f"{running.url('analytics')}/api/analytics/top").json()[
                "skus"
            ],
            what="it is counted",
        )
        assert top

    def test_that_waits_is_answered_with_the_decision(self, running: Installation) -> None:
        order = {"userId": 1, "items": [{"sku": "MUG", "qty": 1}]}
        answer = running.place(order, Prefer="wait=10")
        assert (answer.status_code, answer.json()["status"]) == (200, "CONFIRMED")

    def test_for_more_than_there_is_is_rejected_whole(self, running: Installation) -> None:
        before = running.http.get(f"{running.url('inventory')}/api/stock/MUG").json()
        order = {
            "userId": 1,
            "items": [
                {"sku": "MUG", "qty": 1},
                {"sku": "RARE-1", "qty": 2},
                {"sku": "RARE-1", "qty": 2},
            ],
        }
        page = running.decided(running.place(order).json()["orderId"])
        assert (page["status"], page["reason"], page["short"]) == (
            "REJECTED",
            "OUT_OF_STOCK",
            ["RARE-1"],
        )
        assert running.http.get(f"{running.url('inventory')}/api/stock/MUG").json() == before

    def test_of_an_unknown_sku_is_rejected_with_the_reason(self, running: Installation) -> None:
        order = {"userId": 1, "items": [{"sku": "NOPE", "qty": 1}]}
        page = running.decided(running.place(order).json()["orderId"])
        assert (page["status"], page["reason"]) == ("REJECTED", "UNKNOWN_SKU")

    def test_of_the_drill_fails_after_two_more_tries_and_holds_nobody_up(
        self, running: Installation
    ) -> None:
        drill = running.place({"userId": 1, "items": [{"sku": "FAIL", "qty": 1}]}).json()
        behind = running.place({"userId": 1, "items": [{"sku": "MUG", "qty": 1}]}).json()
        assert running.decided(behind["orderId"])["status"] == "CONFIRMED"
        assert (
            running.page(drill["orderId"]) is None
            or (running.page(drill["orderId"]) or {}).get("status") == "PENDING"
        )
        page = running.decided(drill["orderId"])
        assert page["status"] == "FAILED"
        retries = running.run("consume", "order.created.retry", "--json").stdout.splitlines()
        mine = [line for line in retries if json.loads(line)["key"] == str(drill["orderId"])]
        assert len(mine) == 2


class TestANewInstallation:
    def test_is_not_warned_of_what_is_still_being_made(self, running: Installation) -> None:
        said = (running.home / "logs" / "order.log").read_text()
        assert "set up" in said
        assert "is not set up" not in said


class TestTheCommandLine:
    def test_creates_and_watches_an_order(self, running: Installation) -> None:
        created = running.run("order", "create", "--user", "7", "--item", "ABC-002=3", "--json")
        assert created.returncode == 0, created.stderr
        order_id = str(json.loads(created.stdout)["orderId"])
        watched = running.run("order", "watch", order_id)
        assert watched.returncode == 0, watched.stderr
        assert "CONFIRMED" in watched.stdout

    def test_lag_is_nothing_at_rest_though_transactions_end_with_markers(
        self, running: Installation
    ) -> None:
        order_id = running.place({"userId": 1, "items": [{"sku": "MUG", "qty": 1}]}).json()
        running.decided(order_id["orderId"])

        def at_rest() -> bool:
            shown = running.run("lag", "--json").stdout.splitlines()
            assert len(shown) == sum(len(step.reads) for step in flow(Topics()))
            return all(json.loads(line)["behind"] == 0 for line in shown)

        until(at_rest, what="no lag")

    def test_shows_stock_and_health(self, running: Installation) -> None:
        assert "ABC-001" in running.run("stock", "list").stdout
        doctor = running.run("doctor")
        assert doctor.returncode == 0, doctor.stdout

    def test_loads_and_verifies(self, running: Installation) -> None:
        load = running.run("load", "--orders", "2000", "--skus", "10", "--json")
        assert load.returncode == 0, load.stdout + load.stderr
        verified = running.run("verify", "--json")
        assert verified.returncode == 0, verified.stdout + verified.stderr

    def test_a_second_up_of_the_same_data_says_so(self, running: Installation) -> None:
        second = running.run("up")
        assert second.returncode == 2
        assert "runs already" in second.stderr


class TestCtrlC:
    def test_ends_everything_within_ten_seconds_and_keeps_the_data(self) -> None:
        with installation() as running:
            order_id = running.place({"userId": 1, "items": [{"sku": "MUG", "qty": 1}]}).json()
            running.decided(order_id["orderId"])
            assert len(running.everything()) >= 7
            assert running.end() == 0
            assert [process.cmdline() for process in running.everything()] == []

    def test_killed_outright_it_leaves_nothing_behind_either(self) -> None:
        with installation() as running:
            assert running.end(signal.SIGKILL) == -signal.SIGKILL
            until(lambda: not running.everything(), what="the watchdog has ended the rest")


class TestKillingWhileOrdersCome:
    def test_each_process_in_turn_loses_doubles_and_oversells_nothing(self) -> None:
        with installation() as running:
            with Load(running.url("order")) as load:
                self.kill_each(running, load)
            assert load.strange == []
            assert running.decided(load.accepted[-1])["status"] == "CONFIRMED"
            verified = running.run("verify", "--json", "--wait", "60")
            assert verified.returncode == 0, verified.stdout + verified.stderr

    def kill_each(self, running: Installation, load: Load) -> None:
        victims = {
            **{
                name: lambda name=name: running.pid_of(name)
                for name in ("inventory", "order", "view", "notification", "analytics")
            },
            "kafka": running.pid_of_kafka,
            "postgres": running.pid_of_postgres,
        }
        for name, pid_of in victims.items():
            accepted = len(load.accepted)
            until(lambda n=accepted: len(load.accepted) > n + 50, what=f"orders before {name} dies")
            os.kill(pid_of(), signal.SIGKILL)
            accepted = len(load.accepted)
            until(lambda n=accepted: len(load.accepted) > n + 50, what=f"orders after {name} died")
