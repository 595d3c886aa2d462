"""`kill -9` of anything at any time under `orderstream load` ends in `verify` exit 0."""

import json
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.chaos.clients import ids_of
from tests.chaos.test_chaos import SEED
from tests.chaos.victims import Victims
from tests.flow.installation import Installation, installation
from tests.homes import own_home
from tests.waiting import until

SERVICES = ("order", "inventory", "view", "notification", "analytics")
ANYTHING = (
    *SERVICES,
    *("broker-1", "postgres", "a session of postgres"),
    *("up", "watchdog"),
)
RATE = 400
ORDERS = 3_000
LOAD_WITHIN_S = 180.0
BACK_WITHIN_S = 90.0


@pytest.mark.chaos
@pytest.mark.timeout(1200)
def test_ten_times_out_of_ten(capsys: pytest.CaptureFixture[str]) -> None:
    chance = random.Random(SEED)
    victims = chance.sample(ANYTHING, len(ANYTHING))
    # Without its watchdog nobody would end the others when `up` dies.
    victims.sort(
        key=lambda name: ("up", "watchdog").index(name) if name in ("up", "watchdog") else -1
    )
    with own_home() as home, installation("--quiet", home=home) as running:
        for number, victim in enumerate(victims, 1):
            orders = one_round(running, victim, chance.randrange(50, ORDERS * 2 // 3))
            with capsys.disabled():
                said = (
                    f"round {number}, seed {SEED}: kill -9 of {victim}, {orders:,} orders, verified"
                )
                sys.stdout.write(f"\n  {said}")


def one_round(running: Installation, victim: str, after: int) -> int:
    """Kill it when so many orders were accepted; return how many orders the audit found."""
    answers = running.home / "accepted"
    before = _lines(answers)
    load = begin_load(running, answers)
    try:
        until(lambda: _lines(answers) >= before + after, 90, f"{after} orders are accepted")
        kill(running, victim)
        load.wait(LOAD_WITHIN_S)
    finally:
        if load.poll() is None:
            load.kill()
            load.wait()
    victims = Victims(running)
    until(lambda: not victims.whole(SERVICES, 1), BACK_WITHIN_S, f"all are back after {victim}")
    verified = running.run("verify", "--json", "--wait", "60")
    assert verified.returncode == 0, f"{victim}: {verified.stdout}{verified.stderr}"
    orders: int = json.loads(verified.stdout)["orders"]
    assert orders >= len(ids_of(answers))
    return orders


def begin_load(running: Installation, answers: Path) -> subprocess.Popen[bytes]:
    options = ("--rate", str(RATE), "--orders", str(ORDERS), "--accepted", str(answers))
    with (running.home / "load.log").open("ab") as output:
        return subprocess.Popen(
            [*running.command, "load", *options],
            env=running.env,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


def _lines(answers: Path) -> int:
    return answers.read_bytes().count(b"\n") if answers.exists() else 0


def kill(running: Installation, victim: str) -> None:
    if victim != "up":
        Victims(running).kill([victim])
        return
    assert running.end(signal.SIGKILL) == -signal.SIGKILL
    until(lambda: not _left(running), 30, "the watchdog has ended the rest")
    running.up_again()


def _left(running: Installation) -> list[int]:
    return [p.pid for p in running.everything() if "load" not in p.cmdline()]
