"""What an order costs, and how long reading takes, with 10 thousand to 10 million orders kept.

The history is generated: orders of the last 400 days that are over, in every table, as the services
would have written them. The log does not have it, so it is taken away before `verify` looks. At the
last size, `orderstream prune` runs beside the load. `KEPT=1000000` ends sooner.
"""

import json
import os
import random
import statistics
import subprocess
import threading
import time
from typing import Any, LiteralString

import httpx
import psycopg

from bench.harness import (
    COMMAND,
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

KEPT_MAX = int(os.environ.get("KEPT", "10000000"))
SIZES = [size for size in (10_000, 100_000, 1_000_000, 10_000_000) if size <= KEPT_MAX]
ORDERS = 60_000
WARM_UP_ORDERS = 240_000
RUNS = 3
READS = 200
CHUNK = 500_000
PRUNED_DAYS = 390  # Of 400: a fortieth of the history is older.

# n is an order's number and its id. One in 20 was rejected, one in 20 cancelled, one in 100,000
# failed, all others were shipped; 5,000 SKUs, and one that one order in a million is for.
_HISTORY: LiteralString = """
    CREATE TEMP VIEW history AS
    SELECT n::text AS id, CASE WHEN n % 100000 = 7 THEN 10 WHEN n % 20 = 0 THEN 21
        WHEN n % 20 = 1 THEN 31 ELSE 32 END AS status,
        (n::bigint * 7919 % 100000)::text AS user_id, n % 4 AS partition,
        CASE WHEN n % 1000000 = 77 THEN 'HIST-RARE' ELSE 'HIST-' || n % 5000 END AS sku,
        now() - interval '400 days' + interval '399 days' * (n / {most}.0) AS at, n
    FROM generate_series({first}, {last}) AS n
"""
_TIMELINE: LiteralString = """
    jsonb_build_array(
        jsonb_build_object('type', 'order.created', 'at', at, 'partition', partition, 'offset', n),
        jsonb_build_object('type', 'inventory.reserved', 'at', at + interval '20 ms',
            'partition', partition, 'offset', n),
        jsonb_build_object('type', 'order.fulfilled', 'at', at + interval '1 hour',
            'partition', partition, 'offset', n))
"""
_FILL: tuple[LiteralString, ...] = (
    f"""
    INSERT INTO order_view.orders (order_id, numeric_id, status, user_id, numeric_user, items,
        created_at, decided_at, timeline)
    SELECT id, true, status, user_id, true, jsonb_build_array(jsonb_build_object('sku', sku,
        'qty', 1)), at, at + interval '20 ms', {_TIMELINE} FROM history
    """,
    """
    INSERT INTO inventory.reservation (order_id, status, quantities, reason, released_at,
        decided_at)
    SELECT id, CASE status WHEN 21 THEN 'REJECTED' WHEN 31 THEN 'CANCELLED' ELSE 'FULFILLED' END,
        jsonb_build_object(sku, 1), CASE status WHEN 21 THEN 'OUT_OF_STOCK' END,
        CASE status WHEN 31 THEN at + interval '1 hour' END, at + interval '20 ms' FROM history
    """,
    """
    INSERT INTO notification.notice (event_id, channel, order_id, user_id, status, text, created_at)
    SELECT id || ':inventory.reserved', 'log', id, user_id, 'SENT',
        'Your order ' || id || ' is confirmed.', at + interval '20 ms' FROM history
    """,
    "INSERT INTO analytics.counted_numbers (block, facts)"
    " SELECT id::bigint / 64, decode(repeat('82', 64), 'hex') FROM history GROUP BY 1"
    " ON CONFLICT DO NOTHING",
)
# The tables that keep something of each order, and what tells those that came over HTTP.
_CAME: LiteralString = "length(order_id) > 8"
TABLES: dict[LiteralString, LiteralString] = {
    "order_view.orders": _CAME,
    "inventory.reservation": _CAME,
    "notification.notice": _CAME,
    "analytics.counted_numbers": "block > 10000000 / 64",
}


def run() -> list[Figure]:
    """Measure it."""
    figures: list[Figure] = []
    with folder() as at, installation(at) as up:
        up.wait_until_ready()
        say(f"growth: warming up with {WARM_UP_ORDERS:,} orders")
        load(up, "--orders", str(WARM_UP_ORDERS), "--connections", "256", "--until-decided")
        there = 0
        cost: dict[int, list[float]] = {}
        for size in SIZES:
            grow(up, there, size)
            there = size
            cost[size], rates = _flow(up)
            label = f"{size:,} kept"
            figures.append(Figure(f"CPU of an order, {label}", "us", "", cost[size]))
            figures.append(Figure(f"end to end, 256 connections, {label}", "orders/s", "", rates))
            figures += reads(up, size)
        least = statistics.median(cost[SIZES[0]])
        ratios = [value / least for value in cost[SIZES[-1]]]
        figures.append(Figure("cost of an order, most kept against fewest", "x", "<= 1.2", ratios))
        figures += _sizes(up)
        figures += _pruned_beside_load(up)
        keep_proved("growth", up, figures)
    return figures


def keep_proved(name: str, up: Installation, figures: list[Figure]) -> None:
    """Take the history away, verify what came over HTTP, and keep the figures with the proof."""
    _take_away(up)
    proof = verify(up.env)
    keep(name, figures, proof)


def _connected(up: Installation) -> "psycopg.Connection[Any]":
    return psycopg.connect(up.settings.dsn(), autocommit=True)


def grow(up: Installation, first: int, size: int) -> None:
    """Have so many orders kept, where there are `first`."""
    began = time.monotonic()
    for start in range(first + 1, size + 1, CHUNK):
        last = min(start + CHUNK - 1, size)
        with _connected(up) as connection:
            view = _HISTORY.format(first=start, last=last, most=SIZES[-1])
            connection.execute(view.encode())
            for statement in _FILL:
                connection.execute(statement)
    with _connected(up) as connection:
        for table in TABLES:
            connection.execute(f"VACUUM (ANALYZE) {table}".encode())
        connection.execute("CHECKPOINT")
    say(f"growth: {size:,} orders kept after {time.monotonic() - began:,.0f} s")


def _flow(up: Installation) -> tuple[list[float], list[float]]:
    """Return the CPU of an order in each run, the load generator's left out, and the rates."""
    cost: list[float] = []
    rates: list[float] = []
    for _ in range(RUNS):
        before = up.cpu_s()
        report = load(up, "--orders", str(ORDERS), "--connections", "256", "--until-decided")
        cost.append((up.cpu_s() - before) / ORDERS * 1e6)
        rates.append(report["endToEndPerSecond"])
        say(f"growth: {rates[-1]:,.0f} orders/s, {cost[-1]:,.0f} us of CPU an order")
    return cost, rates


def reads(up: Installation, size: int) -> list[Figure]:
    """Return how long reads over HTTP take, one after the other, each of something else."""
    chance = random.Random(size)
    some = lambda: chance.randrange(1, size + 1)  # noqa: E731
    asked = {
        "GET an order": lambda: f"/{some()}",
        "GET the newest 50": lambda: "",
        "GET a user's": lambda: f"?userId={some() * 7919 % 100000}",
        "GET the rejected": lambda: "?status=REJECTED",
        "GET the failed": lambda: "?status=FAILED",
        "GET those with a SKU": lambda: f"?sku=HIST-{some() % 5000}",
        "GET those with a rare SKU": lambda: "?sku=HIST-RARE",
        "GET a day's": lambda: "?from=2026-06-01T00:00:00Z&to=2026-06-02T00:00:00Z",
        "GET the oldest": lambda: "?sort=created",
        "GET a user's, slowest first": lambda: f"?userId={some() * 7919 % 100000}&sort=-took",
    }
    figures: list[Figure] = []
    with httpx.Client(base_url=up.address("order"), timeout=60, trust_env=False) as client:
        for name, path in asked.items():
            took: list[float] = []
            for _ in range(READS):
                url = f"/api/orders{path()}"
                began = time.perf_counter()
                answer = client.get(url)
                took.append((time.perf_counter() - began) * 1000)
                if answer.status_code != 200:
                    raise Broken(f"GET {url}: {answer.status_code}")
                if sum(took) > 10_000:
                    break  # Slow enough to tell.
            took.sort()
            least, middle, high = took[0], statistics.median(took), took[len(took) * 99 // 100]
            say(f"growth: {size:,} kept: {name}: p50 {middle:.2f}, p99 {high:.2f} ms")
            runs = [least, middle, high]
            figures.append(Figure(f"{name}, {size:,} kept: least, p50, p99", "ms", "< 5", runs))
    return figures


def _sizes(up: Installation) -> list[Figure]:
    figures: list[Figure] = []
    with _connected(up) as connection:
        for table in TABLES:
            row = connection.execute(
                "SELECT pg_table_size(%(t)s), pg_indexes_size(%(t)s), count(*) FROM " + table,
                {"t": table},
            ).fetchone()
            assert row is not None
            heap, indexes, rows = row
            for what, total in (("rows", heap), ("indexes", indexes)):
                figures.append(Figure(f"{table}: {what}", "bytes/row", "", [total / rows]))
    return figures


def _pruned_beside_load(up: Installation) -> list[Figure]:
    """Prune while orders come; return how fast both went."""
    report: dict[str, Any] = {}
    options = ("--orders", str(3 * ORDERS), "--connections", "256", "--until-decided")
    loading = threading.Thread(target=lambda: report.update(load(up, *options)))
    loading.start()
    command = [*COMMAND, "prune", f"--older-than={PRUNED_DAYS}d", "--yes", "--json"]
    done = subprocess.run(command, env=dict(up.env), capture_output=True, text=True)
    loading.join()
    if done.returncode != 0:
        raise Broken(f"prune ended with {done.returncode}: {done.stderr}")
    pruned: dict[str, Any] = json.loads(done.stdout)
    say(f"growth: pruned {pruned['orders']:,} in {pruned['seconds']:.1f} s")
    return [
        Figure("end to end while orders are pruned", "orders/s", "", [report["endToEndPerSecond"]]),
        Figure("orders pruned meanwhile", "orders/s", "", [pruned["orders"] / pruned["seconds"]]),
    ]


def _take_away(up: Installation) -> None:
    """Take the history away: its ids are below the first that the order service gives."""
    with _connected(up) as connection:
        for table, came in TABLES.items():
            connection.execute(
                f"""
                CREATE TEMP TABLE kept AS SELECT * FROM {table} WHERE {came};
                TRUNCATE {table}; INSERT INTO {table} SELECT * FROM kept; DROP TABLE kept
                """.encode()
            )
