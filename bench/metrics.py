"""What metrics cost an order: the calls that are made for it, timed by themselves.

There is no switch to compare with and without, and a difference of under one percent would be lost
in what two runs of an installation differ by. So each call is timed in a loop, and set against the
CPU that an order takes (docs/benchmarks.md, `growth`).
"""

import time
from collections.abc import Callable

from bench.harness import Figure, keep
from orderstream.orders.api import Answers
from orderstream.runtime.clock import monotonic
from orderstream.runtime.observe import StageMetrics
from orderstream.runtime.timings import Timings

CALLS = 200_000
RUNS = 5
RECORDS = 100  # Of a batch: fewer than under load, so that the cost is not made small.
STAGES = 4
ORDER_CPU_US = 150.0


def run() -> list[Figure]:
    """Measure it."""
    timings, stage, answers = Timings(), StageMetrics("bench"), Answers()

    def request() -> None:
        began = monotonic()
        timings.observe("POST", "/api/orders", 202, monotonic() - began)

    def batch() -> None:
        with stage.batch(RECORDS):
            pass

    requests = _each_us(request)
    counters = _each_us(lambda: answers.add(202))
    batches = _each_us(batch)
    shares = [
        (r + c + STAGES * b / RECORDS) / ORDER_CPU_US * 100
        for r, c, b in zip(requests, counters, batches, strict=True)
    ]
    figures = [
        Figure("metrics: time of one request", "us", "", requests),
        Figure("metrics: an order counted by its answer", "us", "", counters),
        Figure(f"metrics: a batch of {RECORDS}", "us", "", batches),
        Figure(
            "metrics, share of an order's CPU",
            "%",
            "< 2",
            shares,
            [f"of {ORDER_CPU_US:g} us an order, {STAGES} stages"],
        ),
    ]
    keep("metrics", figures)
    return figures


def _each_us(call: Callable[[], object]) -> list[float]:
    found: list[float] = []
    for _ in range(RUNS):
        began = time.process_time()
        for _ in range(CALLS):
            call()
        found.append((time.process_time() - began) / CALLS * 1e6)
    return found
