"""Memory of all our processes under load: `up`, its watchdog and the five services.

Kafka, PostgreSQL and the load generator are not counted. Every half second of three loads the
proportional (PSS) and resident (RSS) sizes are summed; the figure is the most that was seen.
"""

import threading
from collections.abc import Callable
from typing import TypeVar

import psutil

from bench.harness import Figure, Installation, folder, installation, keep, load, say, verify

ORDERS = 60_000
CONNECTIONS = 256
RUNS = 3
EVERY_S = 0.5
MIB = 1 << 20

Sizes = dict[str, tuple[float, float]]
T = TypeVar("T")


def run() -> list[Figure]:
    """Measure it."""
    pss: list[float] = []
    rss: list[float] = []
    by_process: list[Sizes] = []
    with folder() as at, installation(at) as up:
        up.wait_until_ready()
        idle = _sizes(up)
        for _ in range(RUNS):
            most, _ = most_during(
                up,
                lambda: load(
                    up,
                    *("--orders", str(ORDERS), "--connections", str(CONNECTIONS)),
                    "--until-decided",
                ),
            )
            by_process.append(most)
            pss.append(_sum(most, 0))
            rss.append(_sum(most, 1))
            say(f"memory: {pss[-1]:,.0f} MiB PSS, {rss[-1]:,.0f} MiB RSS")
        proof = verify(up.env)
    said = ", ".join(f"{name} {size:,.0f}" for name, (size, _) in sorted(by_process[-1].items()))
    figures = [
        Figure("memory of our processes, PSS", "MiB", "< 700", pss, [f"last run: {said}"]),
        Figure("memory of our processes, RSS", "MiB", "", rss),
        Figure("the same before any order, PSS", "MiB", "", [_sum(idle, 0)]),
    ]
    keep("memory", figures, proof, byProcess=by_process, idle=idle)
    return figures


def _sum(sizes: Sizes, which: int) -> float:
    return sum(size[which] for size in sizes.values())


def _sizes(up: Installation) -> Sizes:
    """Return the PSS and RSS of each process in MiB."""
    sizes: Sizes = {}
    for process in up.python_processes():
        try:
            info = process.memory_full_info()
            words = process.cmdline()
        except psutil.Error:
            continue
        name = words[-1] if "serve" in words else "up" if "up" in words else "watchdog"
        sizes[name] = (getattr(info, "pss", info.rss) / MIB, info.rss / MIB)
    return sizes


def total_pss(sizes: Sizes) -> float:
    """Return the sum of the proportional sizes in MiB."""
    return _sum(sizes, 0)


def most_during(up: Installation, work: Callable[[], T]) -> tuple[Sizes, T]:
    """Return the sizes when they were greatest, and what the work returned."""
    most: Sizes = {}
    done = threading.Event()

    def watch() -> None:
        nonlocal most
        while not done.wait(EVERY_S):
            sizes = _sizes(up)
            if _sum(sizes, 0) > _sum(most, 0):
                most = sizes

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        result = work()
    finally:
        done.set()
        watching.join()
    return most, result
