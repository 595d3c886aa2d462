"""Twice the load that it can take, for a minute: who is accepted is answered soon, others at once.

What it can take is measured first: orders accepted per second in a closed loop over 256
connections. Then twice as many are sent each second, by timetable, over twice as many connections
as orders may be under way (`ORDERSTREAM_IN_FLIGHT_MAX`); who is refused comes again when the
answer says. A prober beside them notes how long a refusal takes. `verify` runs at the end.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

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
from bench.memory import most_during, total_pss

SECONDS = 60
WARM_UP_ORDERS = 120_000
RUNS = 3
PROBE_EVERY_S = 0.05
PROBE = {"userId": 1, "items": [{"sku": "LOAD-0001", "qty": 1}]}


def run() -> list[Figure]:
    """Measure it."""
    accepted: list[float] = []
    answered: list[float] = []
    refused: list[float] = []
    refusals: list[float] = []
    memory: list[float] = []
    with folder() as at, installation(at) as up:
        up.wait_until_ready()
        load(up, "--orders", str(WARM_UP_ORDERS), "--connections", "256", "--until-decided")
        for _ in range(RUNS):
            able = load(up, "--orders", "60000", "--connections", "256", "--until-decided")
            rate = round(2 * able["acceptedPerSecond"])
            with _probing(up) as waits:
                sizes, report = most_during(up, lambda rate=rate: _overload(up, rate))
            accepted.append(report["acceptedPerSecond"])
            answered.append(report["answerMs"]["p99"])
            refused.append(report["answers"].get("503", 0))
            refusals.append(1000 * sorted(waits)[len(waits) * 99 // 100] if waits else 0.0)
            memory.append(total_pss(sizes))
            say(
                f"overload: {rate:,}/s asked, {accepted[-1]:,.0f}/s accepted, p99"
                f" {answered[-1]:,.0f} ms, {refused[-1]:,.0f} answers 503, of the prober's"
                f" {len(waits)} p99 {refusals[-1]:,.0f} ms, {memory[-1]:,.0f} MiB"
            )
            load(up, "--orders", "1", "--until-decided")  # Once the backlog is gone.
        proof = verify(up.env)
    figures = [
        Figure("accepted at twice the load", "orders/s", "", accepted),
        Figure("POST to 202 of those accepted, p99", "ms", "< 1,000", answered),
        Figure("answers 503 in a minute", "", "", refused),
        Figure("POST to 503 of the prober, p99", "ms", "at once", refusals),
        Figure("memory of our processes, PSS", "MiB", "< 700", memory),
    ]
    keep("overload", figures, proof)
    return figures


def _overload(up: Installation, rate: int) -> dict[str, Any]:
    connections = ("--connections", str(2 * up.settings.in_flight_max))
    return load(up, "--rate", str(rate), "--seconds", str(SECONDS), *connections, all_placed=False)


@contextmanager
def _probing(up: Installation) -> Iterator[list[float]]:
    """Place an order now and then, and note how many seconds each 503 took."""
    over = threading.Event()
    waits: list[float] = []

    def probe() -> None:
        with httpx.Client(base_url=up.address("order"), timeout=30, trust_env=False) as client:
            while not over.wait(PROBE_EVERY_S):
                began = time.perf_counter()
                answer = client.post("/api/orders", json=PROBE)
                if answer.status_code == 503:
                    waits.append(time.perf_counter() - began)
                    if "retry-after" not in answer.headers:
                        raise Broken("a 503 without Retry-After")

    thread = threading.Thread(target=probe)
    thread.start()
    try:
        yield waits
    finally:
        over.set()
        thread.join()
