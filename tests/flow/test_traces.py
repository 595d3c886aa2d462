"""One order's trace through a whole installation, as a collector sees it."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.collector import Collector, Seen, collecting
from tests.flow.installation import Installation, installation
from tests.flow.test_own_consumers import own
from tests.notification.receivers import SECRET, Hooks, web_server
from tests.waiting import until

KEY = "messaging.kafka.message.key"
ABOVE = "00f067aa0ba902b7"
ITEMS = {"userId": 42, "items": [{"sku": "ABC-001", "qty": 1}]}
EXPIRES_S = 2
OWN = """
from opentelemetry import trace
from orderstream import consumer

@consumer("stamps", topics=["order.created"], publishes=["stamps"])
def stamp(batch, tx):
    for event in batch:
        with trace.get_tracer("mine").start_as_current_span("my own work"):
            yield "stamps", event.key, "stamped"
"""


@dataclass
class World:
    running: Installation
    collector: Collector
    hooks: Hooks

    def until(self, trace: str, *names: str) -> dict[str, Seen]:
        """Return spans of a trace by service and name, once these are there."""

        def look() -> dict[str, Seen] | None:
            found = {f"{s.service} {s.name}": s for s in self.collector.of(trace)}
            return found if {*names} <= found.keys() else None

        return until(look, what=f"{names} in trace {trace}")


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with collecting() as collector, web_server() as hooks:
        settings: dict[str, Any] = {
            "OTEL_TRACES_EXPORTER": "otlp",
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.address,
            "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
            "OTEL_BSP_SCHEDULE_DELAY": "100",
            "ORDERSTREAM_WEBHOOK_URLS": hooks.address,
            "ORDERSTREAM_WEBHOOK_SECRET": SECRET,
            "ORDERSTREAM_WEBHOOK_ALLOW_PRIVATE": "1",
            "ORDERSTREAM_RESERVATION_TTL": str(EXPIRES_S),
            "ORDERSTREAM_RETRY_BACKOFF": "0.1",
        }
        with installation("--quiet", **settings) as running:
            yield World(running, collector, hooks)


def a_trace() -> str:
    return os.urandom(16).hex()


def traceparent(trace: str, *, sampled: bool = True) -> str:
    return f"00-{trace}-{ABOVE}-{'01' if sampled else '00'}"


class TestAnOrder:
    def test_is_followed_through_all_services(self, world: World) -> None:
        trace = a_trace()
        answer = world.running.place(ITEMS, traceparent=traceparent(trace))
        key = str(answer.json()["orderId"])
        found = world.until(
            trace,
            "orderstream-order POST /api/orders",
            "orderstream-order send order.created",
            "orderstream-inventory process order.created",
            "orderstream-inventory send inventory.reserved",
            *(
                f"orderstream-{service} process {topic}"
                for service in ("view", "analytics")
                for topic in ("order.created", "inventory.reserved")
            ),
            "orderstream-notification process inventory.reserved",
            "orderstream-notification notify confirmed",
        )
        post = found["orderstream-order POST /api/orders"]
        sent = found["orderstream-order send order.created"]
        decided = found["orderstream-inventory process order.created"]
        told = found["orderstream-inventory send inventory.reserved"]
        assert (post.kind, post.parent) == ("server", ABOVE)
        assert post.said["http.response.status_code"] == 202
        assert (sent.kind, sent.parent) == ("producer", post.id)
        assert sent.said["messaging.kafka.message.key"] == key
        assert (decided.kind, decided.parent) == ("consumer", sent.id)
        assert decided.said["messaging.consumer.group.name"] == "orderstream-inventory"
        assert (told.kind, told.parent) == ("producer", decided.id)
        for service in ("view", "analytics"):
            assert found[f"orderstream-{service} process order.created"].parent == sent.id
        for service in ("view", "analytics", "notification"):
            assert found[f"orderstream-{service} process inventory.reserved"].parent == told.id
        assert found["orderstream-notification notify confirmed"].parent == told.id
        assert not any(span.error for span in found.values())
        # Each has a link to the span of its batch, and that one back to whom it got it from.
        for span in (s for s in found.values() if s.kind == "consumer"):
            (at,) = span.links
            batch = until(
                lambda at=at: next((s for s in world.collector.spans if s.at == at), None)
            )
            assert (batch.kind, batch.parent) == ("consumer", "")
            assert (trace, span.parent) in batch.links

    def test_has_its_webhook_carry_the_trace(self, world: World) -> None:
        trace = a_trace()
        world.running.place(ITEMS, traceparent=traceparent(trace))
        notify = world.until(trace, "orderstream-notification notify confirmed")
        span = notify["orderstream-notification notify confirmed"]
        assert f"00-{trace}-{span.id}-01" in [h.get("traceparent") for h in world.hooks.heads]

    def test_that_is_not_to_be_recorded_is_not(self, world: World) -> None:
        silent, trace = a_trace(), a_trace()
        answer = world.running.place(ITEMS, traceparent=traceparent(silent, sampled=False))
        world.running.decided(answer.json()["orderId"])
        world.running.place(ITEMS, traceparent=traceparent(trace))
        world.until(trace, "orderstream-notification notify confirmed")
        assert world.collector.of(silent) == []

        # Its context goes on all the same, for who decides otherwise.
        def told() -> bool:
            heads = [h.get("traceparent", "") for h in world.hooks.heads]
            return any(head.startswith(f"00-{silent}-") and head.endswith("-00") for head in heads)

        until(told)

    def test_that_comes_without_a_trace_begins_one(self, world: World) -> None:
        answer = world.running.place({"orderId": "alone", "productId": "P-1", "quantity": 1})
        assert answer.status_code == 202

        def sent() -> Seen | None:
            spans = world.collector.spans
            return next((s for s in spans if s.said.get(KEY) == "alone"), None)

        trace = until(sent).trace
        found = world.until(trace, "orderstream-notification notify confirmed")
        assert found["orderstream-order POST /api/orders"].parent == ""

    def test_that_fails_shows_where(self, world: World) -> None:
        trace = a_trace()
        order = {"orderId": "drill", "productId": "FAIL", "quantity": 1}
        world.running.place(order, traceparent=traceparent(trace))
        found = world.until(
            trace,
            "orderstream-inventory send order.created.DLT",
            "orderstream-inventory process order.created.retry",
            "orderstream-notification notify failed",
        )
        failed = found["orderstream-inventory process order.created.retry"]
        assert failed.error
        assert failed.said["error.type"] == "DrillFailure"

    def test_that_is_cancelled_is_in_the_trace_of_the_request(self, world: World) -> None:
        order, trace = {"orderId": "off", "productId": "P-1", "quantity": 1}, a_trace()
        world.running.place(order)
        world.running.decided("off")
        world.running.http.post(
            f"{world.running.url('order')}/api/orders/off/cancel",
            headers={"traceparent": traceparent(trace)},
        )
        found = world.until(
            trace,
            "orderstream-order POST /api/orders/{order_id}/cancel",
            "orderstream-order send order.cancelled",
            "orderstream-inventory send inventory.released",
            "orderstream-view process inventory.released",
            "orderstream-notification notify cancelled",
        )
        asked = found["orderstream-order POST /api/orders/{order_id}/cancel"]
        assert asked.parent == ABOVE
        assert found["orderstream-order send order.cancelled"].parent == asked.id

    def test_that_expires_is_in_the_trace_of_the_sweep(self, world: World) -> None:
        order = {"orderId": "late", "productId": "P-1", "quantity": 1}
        world.running.place(order)

        def expired() -> Seen | None:
            spans = [s for s in world.collector.spans if s.name == "send order.cancelled"]
            return next((s for s in spans if s.said[KEY] == "late"), None)

        sent = until(expired)
        found = world.until(
            sent.trace,
            "orderstream-order expire reservations",
            "orderstream-inventory send inventory.released",
        )
        sweep = found["orderstream-order expire reservations"]
        assert (sweep.id, sweep.parent) == (sent.parent, "")


class TestManyOrders:
    def test_of_one_request_are_sent_in_one_span_and_handled_in_few(self, world: World) -> None:
        trace, count = a_trace(), 50
        line = b'{"userId":7,"items":[{"sku":"ABC-002","qty":1}]}\n'
        answer = world.running.http.post(
            f"{world.running.url('order')}/api/orders:bulk",
            content=line * count,
            headers={
                "content-type": "application/x-ndjson",
                "traceparent": traceparent(trace),
            },
        )
        assert answer.text.count('"status":202') == count

        def decided() -> list[Seen] | None:
            spans = world.collector.of(trace, "send inventory.reserved")
            return spans if sum(how_many(s) for s in spans) == count else None

        until(decided)
        (sent,) = world.collector.of(trace, "send order.created")
        assert how_many(sent) == count
        (post,) = world.collector.of(trace, "POST /api/orders:bulk")
        assert (post.parent, sent.parent) == (ABOVE, post.id)
        handled = [s for s in world.collector.of(trace) if s.kind == "consumer"]
        assert len(handled) < count


def how_many(span: Seen) -> int:
    return span.said.get("messaging.batch.message_count", 1)


class TestAConsumerOfAUsersOwn:
    def test_has_spans_and_its_own_ones_are_among_them(self, world: World, tmp_path: Path) -> None:
        (tmp_path / "stamping.py").write_text(OWN)
        with own(world.running, "stamping:stamp", tmp_path) as running:
            first, trace = a_trace(), a_trace()
            world.running.place(ITEMS, traceparent=traceparent(first))
            world.until(first, "orderstream-stamps process order.created")  # With all before it.
            world.running.place(ITEMS, traceparent=traceparent(trace))
            found = world.until(
                trace, "orderstream-stamps process order.created", "orderstream-stamps send stamps"
            )
            handled = found["orderstream-stamps process order.created"]
            assert found["orderstream-stamps send stamps"].parent == handled.id
            (batch,) = handled.links

            def mine() -> list[Seen]:
                return [s for s in world.collector.spans if (s.trace, s.parent) == batch]

            assert {s.name for s in until(mine)} == {"my own work"}
            assert running.end(15) == 0
