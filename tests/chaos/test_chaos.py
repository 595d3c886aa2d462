"""Everything that can be killed, frozen, filled or put wrong is, while orders come."""

import os
import random

import pytest

from tests.chaos.run import Plan, run
from tests.chaos.schedule import VICTIMS, long_schedule, short_schedule

SEED = int(os.environ.get("CHAOS_SEED", 0)) or random.randrange(1, 1 << 32)
SHORT_RATE = 200.0
SHORT_S = 60.0  # No fault begins later, but for the first three.
SHORT_FAULTS = 3
LONG_RATE = 300.0
LONG_ORDERS = 100_000


def test_the_long_schedule_kills_and_freezes_everything_whatever_the_seed() -> None:
    for seed in range(100):
        faults = [period for period in long_schedule(seed) if period.kind != "calm"]
        for kind in ("kill", "freeze"):
            alone = {fault.victims for fault in faults if fault.kind == kind}
            assert {(victim,) for victim in VICTIMS} <= alone
        assert {"rolling restart", "full disk", "clock"} <= {fault.kind for fault in faults}
        assert long_schedule(seed) == long_schedule(seed)


@pytest.mark.timeout(400)
def test_a_few_faults_of_each_kind_break_no_promise(capsys: pytest.CaptureFixture[str]) -> None:
    said: list[str] = []
    plan = Plan(
        SEED, short_schedule(SEED), SHORT_RATE, seconds_max=SHORT_S, faults_min=SHORT_FAULTS
    )
    found = run(plan, said.append)
    with capsys.disabled():
        print(f"\n{found.figures()}")  # noqa: T201
    assert not found.violations, "\n".join(said)
    assert found.faults.total() >= SHORT_FAULTS  # All seven, where the machine is quick enough.


@pytest.mark.chaos
@pytest.mark.timeout(1800)
def test_a_hundred_thousand_orders_survive_every_fault(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def say(line: str) -> None:
        with capsys.disabled():
            print(f"\n  {line}", end="", flush=True)  # noqa: T201

    periods = long_schedule(SEED)
    say(f"seed {SEED}: {len(periods)} periods (CHAOS_SEED={SEED} repeats them)")
    found = run(Plan(SEED, periods, LONG_RATE, LONG_ORDERS), say)
    say(found.figures())
    assert not found.violations
    assert found.faults.total() >= 20
    assert found.orders >= LONG_ORDERS
