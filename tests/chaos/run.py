"""One run: an installation under load, faults by schedule, then everything that must hold."""

import random
import shutil
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from orderstream.local import kafka
from tests.chaos.clients import Regulars, SteadyLoad
from tests.chaos.disk import Disk
from tests.chaos.probe import Probe
from tests.chaos.schedule import REDIS, WORKERS, Period
from tests.chaos.victims import Victims, make_clocks, path_of_clocks
from tests.flow.installation import Installation, installation
from tests.homes import own_home
from tests.own_redis import OwnRedis
from tests.waiting import until

BROKERS = 3
PARTITIONS = 4
RESUMES_WITHIN_S = 90.0
LONG_PAUSE_S = 30.0  # What took longer is worth a look at the logs.
FULL_WITHIN_S = 30.0
REDIS_AWAY_S = 2.0  # Longer than services leave it alone after a fault.
QUIET_WITHIN_S = 240
DOUBLED = ("inventory", "view", "notification", "analytics")
WORKERS_OF = tuple(word for name in DOUBLED for word in ("--workers", f"{name}=2"))
OPTIONS = ("--brokers", str(BROKERS), "--quiet", *WORKERS_OF)

Say = Callable[[str], None]


@dataclass
class Found:
    """What a run measured, and what it found broken."""

    seed: int
    orders: int = 0
    faults: Counter[str] = field(default_factory=Counter[str])
    calm: int = 0
    pauses: list[tuple[float, str]] = field(default_factory=list[tuple[float, str]])
    slowest_s: float = 0.0
    visits: Counter[str] = field(default_factory=Counter[str])
    answers: Counter[str] = field(default_factory=Counter[str])
    seconds: float = 0.0
    audit: str = ""
    violations: list[str] = field(default_factory=list[str])

    def figures(self) -> str:
        """Return the figures, as they are printed."""
        worst_s, cause = max(self.pauses, default=(0.0, "nothing"))
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(self.faults.items()))
        answers = ", ".join(f"{n:,} x {status}" for status, n in sorted(self.answers.items()))
        visits = ", ".join(f"{count:,} {what}" for what, count in sorted(self.visits.items()))
        lines = (
            f"chaos, seed {self.seed}, {self.seconds:.0f} s under load",
            f"  orders accepted   {self.orders:,} (answers to load: {answers}; visits: {visits})",
            f"  faults injected   {self.faults.total()}: {kinds}; {self.calm} calm periods",
            f"  worst pause       {worst_s:.1f} s in a partition: {cause}",
            f"  slowest order     {self.slowest_s:.1f} s from POST to confirmed",
            f"  audit             {self.audit}",
            f"  violations        {len(self.violations)}",
            *(f"    {violation}" for violation in self.violations),
        )
        return "\n".join(lines)


@dataclass
class Chaos:
    """An installation with everything that can be done to it."""

    running: Installation
    victims: Victims
    disk: Disk
    redis: OwnRedis
    probe: Probe
    chance: random.Random

    def carry_out(self, period: Period) -> None:
        """Do what the schedule says; what lasts is over at the end."""
        match period.kind:
            case "calm":
                time.sleep(period.seconds)  # How long nothing happens.
            case "kill":
                self.victims.kill(period.victims)
                if REDIS in period.victims:  # Nobody else starts it again.
                    time.sleep(REDIS_AWAY_S)
                    self.redis.start()
            case "freeze":
                self.victims.freeze(period.victims, period.seconds)
            case "rolling restart":
                names = list(WORKERS)
                self.chance.shuffle(names)
                self.victims.restart_each(names)
            case "full disk":
                self._full_disk(period.seconds)
            case "emptied":
                self.redis.client.flushall()
            case "clock":
                (name,) = period.victims
                self.victims.set_clock(name, period.seconds)
                self._flows(time.time())  # With the wrong clock.
                self.victims.set_clock(name, 0.0)
            case other:
                raise AssertionError(other)

    def _full_disk(self, seconds: float) -> None:
        before = self.disk.times_full()
        with self.disk.full():
            until(lambda: self.disk.times_full() > before, FULL_WITHIN_S, "the disk is full")
            time.sleep(seconds)  # How long the fault lasts.

    def resume(self) -> None:
        """Return once everything is back and new orders are confirmed in every partition."""
        began, said = time.time(), ""
        deadline = time.monotonic() + RESUMES_WITHIN_S
        while time.monotonic() < deadline:
            said = self.victims.whole(WORKERS, BROKERS)
            if not said:
                break
            time.sleep(0.1)
        assert not said, f"not whole again within {RESUMES_WITHIN_S:g} s: {said}"
        self._flows(began)

    def _flows(self, since_s: float) -> None:
        until(
            lambda: self.probe.flows_since(since_s),
            RESUMES_WITHIN_S,
            "new orders are confirmed in every partition",
        )


@contextmanager
def chaotic_installation(seed: int) -> Iterator[Chaos]:
    """Give a whole installation with three brokers and two workers of each service."""
    with own_home() as home, OwnRedis.at_hand(home) as redis:
        disk = Disk(home / "postgres", lambda: [p.pid for p in chaos.victims.postgres()])
        disk.mount()
        clocks = make_clocks(home / "clocks", WORKERS)
        settings = {"PYTHONPATH": path_of_clocks(), "CLOCK_JUMPS": str(clocks)}
        settings["ORDERSTREAM_PARTITIONS"] = str(PARTITIONS)
        settings |= {"REDIS_URL": redis.url, "ORDERSTREAM_FAST_REJECT": "1"}
        try:
            with installation(*OPTIONS, home=home, **settings) as running:
                probe = Probe(kafka.status(home).bootstrap_servers, PARTITIONS)
                victims = Victims(running, clocks, redis)
                chaos = Chaos(running, victims, disk, redis, probe, random.Random(seed))
                with probe:
                    yield chaos
        finally:
            disk.unmount()


@dataclass(frozen=True)
class Plan:
    """What comes, under how many orders a second, and until how many were placed.

    No period begins when orders have flowed for `seconds_max`.
    """

    seed: int
    periods: Sequence[Period]
    rate: float
    orders: int = 0
    seconds_max: float = 1200.0  # No fault begins later, once there were so many:
    faults_min: int = 0
    keep_logs: bool = False  # Also of a run in which nothing was broken, and nothing took long.


def run(plan: Plan, say: Say) -> Found:
    """Go through the periods, and on under load until there are so many orders; then judge."""
    found, seed = Found(plan.seed), plan.seed
    with chaotic_installation(seed) as chaos:
        try:
            _under_load(chaos, plan, found, say)
        except (AssertionError, httpx.HTTPError, subprocess.TimeoutExpired) as error:
            found.violations.append(f"{type(error).__name__}: {error}")
            chaos.victims.say_where()
        long = max(found.pauses, default=(0.0, ""))[0] > LONG_PAUSE_S
        if found.violations or plan.keep_logs or long:
            say(f"logs are kept in {_keep_logs(chaos.running.home, seed)}")
    return found


def _under_load(chaos: Chaos, plan: Plan, found: Found, say: Say) -> None:
    load, regulars = SteadyLoad(chaos.running, plan.rate), Regulars(chaos.running, plan.seed)
    began = time.monotonic()
    try:
        regulars.put_on_the_shelf()
        with load, regulars:
            chaos.resume()
            say("orders flow")
            flows = time.monotonic()
            for number, period in enumerate(plan.periods, 1):
                late = time.monotonic() - flows > plan.seconds_max
                if late and found.faults.total() >= plan.faults_min:
                    say("no more time for the others")
                    break
                chaos.probe.begin()
                chaos.carry_out(period)
                chaos.resume()
                pause_s = chaos.probe.pause_s()
                say(f"{number}/{len(plan.periods)} {period}: paused {pause_s:.1f} s")
                if period.kind == "calm":
                    found.calm += 1
                else:
                    found.faults[period.kind] += 1
                    found.pauses.append((pause_s, str(period)))
            within_s, known = 60 + plan.orders / plan.rate, chaos.probe.created
            until(lambda: len(known) >= plan.orders, within_s, f"{plan.orders:,} orders")
    finally:
        found.seconds = time.monotonic() - began
        found.slowest_s = chaos.probe.slowest_s
        found.visits = regulars.did
        for report in load.reports:
            found.answers.update(report["answers"])
        found.violations += load.violations() + regulars.strange
    accepted = load.accepted() | set(regulars.accepted)
    found.orders = len(accepted)
    say(f"{found.orders:,} orders accepted; waiting until it is quiet, then verify")
    _judge(chaos.running, found)
    _all_known(chaos, accepted, regulars, found)
    found_again = "every worker has Redis again"
    until(lambda: chaos.victims.all_have_everything(WORKERS), RESUMES_WITHIN_S, found_again)


def _all_known(chaos: Chaos, accepted: set[str], regulars: Regulars, found: Found) -> None:
    """Every order that a client was promised is in the log, and has a page."""
    lost = {order_id for order_id in accepted if order_id.encode() not in chaos.probe.created}
    found.violations += [f"accepted, but not in the log: {order_id}" for order_id in lost]
    sold = {order_id for order_id in regulars.refused if order_id.encode() in chaos.probe.created}
    found.violations += [f"refused as sold out, but in the log: {order_id}" for order_id in sold]
    pages = dict(_pages(chaos.running))
    unknown = accepted - pages.keys()
    found.violations += [f"accepted, but has no page: {order_id}" for order_id in unknown]
    for order_id, status in regulars.ended.items():
        if pages.get(order_id) != status:
            said = f"a client was told {status}, the page says {pages.get(order_id)}"
            found.violations.append(f"{order_id}: {said}")
    pending = [order_id for order_id, status in pages.items() if status == "PENDING"]
    found.violations += [f"still PENDING: {order_id}" for order_id in pending]


def _pages(running: Installation) -> Iterator[tuple[str, str]]:
    cursor: dict[str, Any] = {}
    while True:
        answer = running.http.get(
            f"{running.url('order')}/api/orders", params={"limit": 500, **cursor}
        ).json()
        for order in answer["orders"]:
            yield str(order["orderId"]), order["status"]
        if answer["nextCursor"] is None:
            return
        cursor = {"cursor": answer["nextCursor"]}


def _judge(running: Installation, found: Found) -> None:
    result = running.run("verify", "--wait", str(QUIET_WITHIN_S), timeout_s=QUIET_WITHIN_S * 3)
    found.audit = (result.stdout.strip().splitlines() or [result.stderr.strip()])[-1]
    if result.returncode != 0:
        found.violations.append(f"verify ends with {result.returncode}:\n{result.stdout}")


def _keep_logs(home: Path, seed: int) -> Path:
    kept = Path(tempfile.mkdtemp(prefix=f"orderstream-chaos-{seed}-"))
    for name in ("up.log", "load.log", "accepted"):
        if (home / name).exists():
            shutil.copy(home / name, kept)
    shutil.copytree(home / "logs", kept / "logs")
    shutil.copy((home / "postgres" / "data").resolve().parent / "server.log", kept / "postgres.log")
    for node in (home / "kafka").glob("node-*"):
        for log in node.glob("*.log"):
            shutil.copy(log, kept / f"{node.name}-{log.name}")
    return kept
