"""A large backlog, drained by inventory with more partitions and with more workers.

`ORDERS` orders (1,000,000) lie on `order.created`, in 4 partitions, before one worker, or two,
start; three times. Then a fifth of that, once, in 1, 2 and 8 partitions, each on servers of its
own. Rate and CPU as in `drain`.
"""

import os

from bench.drain import MANY, Backlog, audited, drain, servers
from bench.harness import Figure, folder, keep, say

ORDERS = int(os.environ.get("ORDERS", "1000000"))
OTHERS = ORDERS // 5
# Partitions: how many orders, how often, and the workers that take turns on them.
PLACES = {
    4: (ORDERS, 3, (1, 2)),
    1: (OTHERS, 1, (1,)),
    2: (OTHERS, 1, (1, 2)),
    8: (OTHERS, 1, (1, 2)),
}


def run() -> list[Figure]:
    """Measure it."""
    rates: dict[tuple[int, int], list[float]] = {}
    proofs: list[str] = []
    for partitions, (orders, times, all_workers) in PLACES.items():
        with (
            folder() as at,
            servers(at, ORDERSTREAM_PARTITIONS=str(partitions)) as (settings, env),
        ):
            backlog = Backlog(settings)
            for _ in range(times):
                for workers in all_workers:
                    backlog.put(orders, MANY)
                    done = drain("inventory", settings, env, orders, workers)
                    rates.setdefault((partitions, workers), []).append(done.orders_per_s)
                    cpu = ", ".join(f"{who} {us:.1f}" for who, us in done.cpu_us.items())
                    say(
                        f"scale: {partitions} partitions, {workers} workers:"
                        f" {done.orders_per_s:,.0f} orders/s; us: {cpu}"
                    )
            proofs.append(audited(settings, env))
    figures = [
        Figure(
            f"{PLACES[partitions][0]:,} drained, {partitions} partitions, {workers} workers",
            "orders/s",
            ">= 15,000" if workers == 1 else "",
            runs,
        )
        for (partitions, workers), runs in rates.items()
    ]
    two = [b / a for a, b in zip(rates[4, 1], rates[4, 2], strict=True)]
    figures.append(Figure("two workers against one, 4 partitions", "x", ">= 1", two))
    keep("scale", figures, *proofs, orders=ORDERS)
    return figures
