"""The runbook's drills (docs/operations.md) against a whole installation, by its own commands."""

import json
import shutil
import signal
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from tests.flow.installation import Installation, Load, installation
from tests.flow.test_own_consumers import settings_of
from tests.kafka.topics import keys, read
from tests.notification.receivers import SECRET, Hooks, web_server
from tests.waiting import until

BACKUP = "yesterday.dump"
WITHIN_S = 900.0


@pytest.fixture
def hooks() -> Iterator[Hooks]:
    with web_server() as hooks:
        yield hooks


@pytest.fixture
def running(hooks: Hooks) -> Iterator[Installation]:
    with installation(
        "--quiet",
        ORDERSTREAM_WEBHOOK_URLS=hooks.address,
        ORDERSTREAM_WEBHOOK_SECRET=SECRET,
        ORDERSTREAM_WEBHOOK_ALLOW_PRIVATE="1",
    ) as running:
        yield running


def done(running: Installation, *arguments: str) -> str:
    """Run a command that has to succeed, and return what it prints."""
    ended = running.run(*arguments)
    assert ended.returncode == 0, f"{arguments}: {ended.stdout}{ended.stderr}"
    return ended.stdout


def order(qty: int = 1, **more: Any) -> dict[str, Any]:
    return {"userId": 7, "items": [{"sku": "ABC-001", "qty": qty}], **more}


def told(hooks: Hooks) -> Counter[str]:
    return Counter(hooks.ids)


@pytest.mark.chaos  # tests/kafka/test_reconcile.py is the short form.
@pytest.mark.parametrize("orders", [500, 20_000])
def test_the_database_is_lost_and_no_order_with_it(
    running: Installation, hooks: Hooks, orders: int
) -> None:
    with Load(running.url("order")) as load:
        until(lambda: len(load.accepted) > orders, WITHIN_S)
        first = running.place(order(), **{"Idempotency-Key": "before"}).json()["orderId"]
        done(running, "db", "backup", BACKUP)
        told_then = told(hooks)
        since = len(load.accepted)
        keyed = running.place(order(), **{"Idempotency-Key": "since"}).json()["orderId"]
        given = [running.place(order()).json()["orderId"] for _ in range(5)]
        for becomes, order_id in (("cancel", given[0]), ("fulfil", given[1]), ("fulfil", first)):
            assert running.decided(order_id)["status"] == "CONFIRMED"
            running.http.post(f"{running.url('order')}/api/orders/{order_id}/{becomes}")
        until(lambda: len(load.accepted) > since + 2 * orders, WITHIN_S)
        until(lambda: told(hooks).total() > told_then.total() + orders, WITHIN_S)
        running.end(signal.SIGKILL)  # All of it at once, orders under way; and then:
    until(lambda: not running.everything(), what="its servers have ended")
    shutil.rmtree((running.home / "postgres" / "data").resolve())
    told_by_then = told(hooks)

    done(running, "kafka", "start")
    done(running, "db", "start")
    done(running, "db", "restore", BACKUP)
    refused = running.run("up", "--quiet")
    assert (refused.returncode, "older than Kafka" in refused.stderr) == (1, True), refused.stderr
    until(lambda: "done" in running.run("db", "reconcile", "--yes", "--json").stdout)
    again = json.loads(done(running, "db", "reconcile", "--dry-run", "--json"))
    assert (again["decided"], again["claims"], again["notToldAgain"]) == (0, 0, 0)
    running.up_again()

    # The client's repeats are the same orders, and what is another order is a conflict.
    for key, order_id in (("before", first), ("since", keyed)):
        answer = running.place(order(), **{"Idempotency-Key": key})
        assert (answer.status_code, answer.json()["orderId"]) == (202, order_id)
        answer = running.place(order(2), **{"Idempotency-Key": key})
        assert answer.status_code == 422
    answer = running.place(order(2, orderId=load.accepted[-1]))
    assert answer.status_code == 409
    new = running.place(order()).json()["orderId"]
    assert running.decided(new)["status"] == "CONFIRMED"

    done(running, "verify", "--wait", "60")
    placed = keys(read(settings_of(running), "order.created"))
    assert max(Counter(placed).values()) == 1
    assert {*map(str, (*load.accepted, first, keyed, *given, new))} <= {*placed}
    assert int(new) > max(int(key) for key in placed if key.isdigit() and key != str(new))
    pages = [running.page(order_id) or {} for order_id in (given[0], given[1], first)]
    assert [page["status"] for page in pages] == ["CANCELLED", "FULFILLED", "FULFILLED"]
    refused = running.http.post(f"{running.url('order')}/api/orders/{first}/cancel")
    assert refused.status_code == 409
    assert load.strange == []

    # Twice: only what Kafka had not heard of yet when all was killed, a second's worth.
    twice = Counter({name: n for name, n in told(hooks).items() if n > 1})
    assert len(twice) < (told_by_then - told_then).total() / 2
    assert not twice.keys() & told_then.keys()
