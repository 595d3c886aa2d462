"""POST to result event at 100, 1,000 and 5,000 orders/s, by timetable (open loop).

From when an order was to be sent until a consumer (`read_committed`, so the transaction of the
result has committed) has its `inventory.reserved` in hand. Orders that a stall delays count from
their own time, so nothing is hidden by coordinated omission. Sender and consumer are one process,
this one, with one clock. The latency of the POST itself is measured by the same orders.
"""

import asyncio
import threading
import time
from typing import Any

import msgspec
from confluent_kafka import OFFSET_END, Consumer, TopicPartition

from bench.harness import (
    Broken,
    Figure,
    Installation,
    folder,
    installation,
    keep,
    load,
    say,
    verify,
)
from orderstream.cli.load_engine import Engine
from orderstream.cli.load_histogram import Histogram
from orderstream.cli.load_http import post_request
from orderstream.cli.load_plan import Plan, Tally
from orderstream.runtime.settings import Settings

SECONDS = 10
WARM_UP_RUNS = 6  # Not counted: at 100/s the broker's code is compiled after a minute.
RUNS = 5
TARGETS = {100: ("<= 10", "<= 30"), 1000: ("", ""), 5000: ("", "")}
SKUS = 100
LAST_WITHIN_S = 10.0


class _Results:
    """Reads result events as they become visible, and notes when."""

    def __init__(self, settings: Settings) -> None:
        self.seen: dict[bytes, float] = {}
        self._stop = threading.Event()
        self._ready = threading.Event()
        self._consumer = Consumer(
            settings.kafka(
                **{
                    "group.id": "bench-latency",
                    "isolation.level": "read_committed",
                    "enable.auto.commit": False,
                    "auto.offset.reset": "latest",
                    "fetch.wait.max.ms": 100,
                }
            )
        )
        self._topics = (settings.topics.inventory_reserved, settings.topics.inventory_rejected)
        self._thread = threading.Thread(target=self._read)

    def __enter__(self) -> "_Results":
        self._thread.start()
        if not self._ready.wait(LAST_WITHIN_S):
            raise Broken("the consumer of results does not start")
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _read(self) -> None:
        consumer = self._consumer
        partitions = [
            (topic, number)
            for topic in self._topics
            for number in consumer.list_topics(topic, timeout=5).topics[topic].partitions
        ]
        ends = {at: consumer.get_watermark_offsets(TopicPartition(*at))[1] for at in partitions}
        consumer.assign([TopicPartition(*at, ends.get(at, OFFSET_END)) for at in partitions])
        consumer.consume(1, 0.5)  # The first fetches are under way after this.
        self._ready.set()
        while not self._stop.is_set():
            message = consumer.poll(0.1)
            if message is not None and message.error() is None:
                self.seen[message.key() or b""] = time.perf_counter()
        consumer.close()


def run() -> list[Figure]:
    """Measure it."""
    figures: list[Figure] = []
    runs: dict[int, list[dict[str, Any]]] = {}
    with folder() as at, installation(at) as up:
        up.wait_until_ready()
        load(up, "--orders", "200000", "--until-decided")  # Warms up, and stocks the SKUs.
        for rate in TARGETS:
            for _ in range(WARM_UP_RUNS):
                _once(up, rate)
            for _ in range(RUNS):
                measured = _once(up, rate)
                runs.setdefault(rate, []).append(measured)
                say(
                    f"latency: {rate:,}/s: to the result p50 {measured['result']['p50']:.2f}"
                    f" p99 {measured['result']['p99']:.2f} p99.9 {measured['result']['p99.9']:.2f}"
                    f" ms, POST p50 {measured['post']['p50']:.2f}"
                    f" p99 {measured['post']['p99']:.2f} ms"
                )
        proof = verify(up.env)
    for rate, (p50, p99) in TARGETS.items():
        for what, target, kind in (("result", p50, "p50"), ("result", p99, "p99")):
            figures.append(_figure(runs[rate], rate, what, kind, target))
        figures.append(_figure(runs[rate], rate, "result", "p99.9", ""))
        figures.append(_figure(runs[rate], rate, "post", "p50", ""))
        figures.append(_figure(runs[rate], rate, "post", "p99", ""))
    keep("latency", figures, proof, runs=runs)
    return figures


def _figure(runs: list[dict[str, Any]], rate: int, what: str, kind: str, target: str) -> Figure:
    name = {"result": "POST to result event", "post": "POST to 202"}[what]
    return Figure(
        f"{name}, {rate:,}/s, {kind}", "ms", target, [measured[what][kind] for measured in runs]
    )


def _once(up: Installation, rate: int) -> dict[str, Any]:
    settings = up.settings
    since: dict[bytes, float] = {}

    def on_accepted(answer: bytes, intended: float) -> None:
        since[str(msgspec.json.decode(answer)["orderId"]).encode()] = intended

    orders = [
        {"userId": n, "items": [{"sku": f"LOAD-{n:04}", "qty": 1}]} for n in range(1, SKUS + 1)
    ]
    authority = f"{settings.host}:{settings.port_order}"
    plan = Plan(
        settings.host,
        settings.port_order,
        [post_request(authority, "/api/orders", msgspec.json.encode(order)) for order in orders],
        orders=rate * SECONDS,
        rate=rate,
    )
    with _Results(settings) as results:
        tally = _run(Engine(plan, on_accepted))
        if tally.unplaced:
            raise Broken(f"{tally.unplaced} orders could not be placed: {tally.trouble}")
        deadline = time.monotonic() + LAST_WITHIN_S
        while not since.keys() <= results.seen.keys():
            if time.monotonic() > deadline:
                missing = len(since.keys() - results.seen.keys())
                raise Broken(f"no result within {LAST_WITHIN_S:g} s for {missing} orders")
            time.sleep(0.05)
        histogram = Histogram()
        for order, intended in since.items():
            histogram.add(int((results.seen[order] - intended) * 1e6))
    return {"result": histogram.shown_ms(), "post": tally.from_schedule.shown_ms()}


def _run(engine: Engine) -> Tally:
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(engine.run())
