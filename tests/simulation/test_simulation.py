"""Nothing lost, nothing doubled, nothing oversold, in every world that a seed makes."""

import os
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest

from tests.simulation.world import Violation, World

FIXED = range(1, 401)  # The same in every run, so that a change is compared with the last one.
FRESH = 200
CHAOS = 100_000
CHUNK = 500
KINDS = (
    "kill -9",
    "stopped for",
    "told to stop",
    "taken for dead",
    "session timed out",
    "transaction timed out",
    "EndTxn committed: it arrives after",
    "EndTxn committed: the request was lost",
    "EndTxn committed: done, but",
    "COMMIT: done, but",
    "COMMIT: it arrives after",
    "COMMIT: the request was lost",
    "connect",
    "InitProducerId",
    "TxnOffsetCommit",
    "fetch",
)


def broken(seeds: range) -> list[str]:
    """Live through these worlds; return what broke, with how to see it again."""
    found: list[str] = []
    for seed in seeds:
        world = World(seed)
        try:
            world.run()
        except Violation as violation:
            found.append(
                f"seed {seed}: {violation}\n{world.schedule.told(100)}\n"
                f"to see it again: python -m tests.simulation --seed {seed} --trace"
            )
    return found


def fresh_base() -> int:
    """Return a first seed that no run had before."""
    return int(time.time() * 1000) % 10**12 * 1000 + 10**6


def live_through(parts: list[range], processes: int) -> list[str]:
    """Live through worlds in several processes; stop at the first that break."""
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        for found in pool.map(broken, parts):
            if found:
                pool.shutdown(cancel_futures=True)
                return found
    return []


def chunks(seeds: range, size: int) -> list[range]:
    return [seeds[at : at + size] for at in range(0, len(seeds), size)]


class TestEveryWorld:
    @pytest.mark.timeout(900)  # Seconds of work; machines are shared.
    def test_keeps_the_promises(self, capsys: pytest.CaptureFixture[str]) -> None:
        base = fresh_base()
        began = time.perf_counter()
        parts = [*chunks(FIXED, 50), *chunks(range(base, base + FRESH), 50)]
        found = live_through(parts, min(os.cpu_count() or 1, 4))
        took = time.perf_counter() - began
        with capsys.disabled():
            print(  # noqa: T201 - the figures of the run
                f"\nsimulation: {len(FIXED) + FRESH} worlds in {took:.0f} s, fresh from seed {base}"
            )
        assert not found, found[0]

    @pytest.mark.chaos
    @pytest.mark.timeout(10_800)
    def test_keeps_the_promises_a_hundred_thousand_times(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        base = fresh_base()
        began = time.perf_counter()
        parts = [*chunks(range(1, CHAOS // 2 + 1), CHUNK)]
        parts += chunks(range(base, base + CHAOS // 2), CHUNK)
        found = live_through(parts, os.cpu_count() or 1)
        took = time.perf_counter() - began
        with capsys.disabled():
            print(  # noqa: T201 - the figures of the run
                f"\nsimulation: {CHAOS} worlds in {took:.0f} s, fresh from seed {base}"
            )
        assert not found, found[0]


@pytest.mark.timeout(600)
class TestASeed:
    def test_makes_the_same_world_in_every_process(self) -> None:
        told = {
            subprocess.run(
                [sys.executable, "-m", "tests.simulation", "--seed", "7", "--trace"],
                env={**os.environ, "PYTHONHASHSEED": hash_seed},
                capture_output=True,
                text=True,
                check=True,
            ).stdout.rpartition("\n1 worlds")[0]
            for hash_seed in ("1", "2", "3")
        }
        assert len(told) == 1
        assert len(told.pop().splitlines()) > 300

    def test_has_faults_of_every_kind_within_a_few_hundred(self) -> None:
        missing = set(KINDS)
        for seed in range(1, 400):
            world = World(seed, keep_all=True)
            world.run()
            faults = [what for _, _, what in world.schedule.trace if what.startswith("!!")]
            missing = {kind for kind in missing if not any(kind in fault for fault in faults)}
            if not missing:
                return
        assert not missing
