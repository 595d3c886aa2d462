"""Which faults come, in which order and for how long: all of it from one seed, nothing run here."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

WORKERS = (
    "order",
    *("inventory", "inventory-1"),
    *("view", "view-1"),
    *("notification", "notification-1"),
    *("analytics", "analytics-1"),
)
BROKERS = ("broker-1", "broker-2", "broker-3")
POSTGRES = "postgres"
REDIS = "redis"  # A server beside the installation, which its services are told of.
VICTIMS = (*WORKERS, *BROKERS, POSTGRES, REDIS)
FREEZE_S = (2.0, 10.0)
CALM_S = (3.0, 6.0)
CALM_SHARE = 0.25  # Of all periods, as Jepsen's schedules have it: trouble also shows afterwards.
JUMPS_S = (3_600.0, -3_600.0)


@dataclass(frozen=True)
class Period:
    """One thing that is done, and to whom; `seconds` is how long, or how far a clock jumps."""

    kind: str
    victims: tuple[str, ...] = ()
    seconds: float = 0.0

    def __str__(self) -> str:
        length = f" {self.seconds:+.1f} s" if self.seconds else ""
        return f"{self.kind} {' and '.join(self.victims)}{length}".replace("  ", " ")


def long_schedule(seed: int) -> list[Period]:
    """Every process killed and frozen, and all else that there is, shuffled, calm in between."""
    chance = random.Random(seed)
    faults = [Period("kill", (victim,)) for victim in VICTIMS]
    faults += [Period("freeze", (victim,), chance.uniform(*FREEZE_S)) for victim in VICTIMS]
    faults += [
        Period("kill", ("a session of postgres",)),
        Period("kill", _two(chance, BROKERS)),
        Period("freeze", _two(chance, BROKERS), chance.uniform(*FREEZE_S)),
        Period("kill", (chance.choice(WORKERS), POSTGRES)),
        Period("kill", (chance.choice(WORKERS), chance.choice(BROKERS))),
        Period("rolling restart"),
        Period("full disk", (POSTGRES,), 5.0),
        Period("emptied", (REDIS,)),
        Period("kill", (chance.choice(WORKERS), REDIS)),
        *(Period("clock", (chance.choice(WORKERS),), jump) for jump in JUMPS_S),
    ]
    chance.shuffle(faults)
    return _with_calm(chance, faults)


def short_schedule(seed: int) -> list[Period]:
    """One of each kind, on victims that the seed chooses."""
    chance = random.Random(seed)
    freeze_s = (2.0, 4.0)
    faults = [
        Period("kill", (chance.choice(WORKERS),)),
        Period("freeze", (chance.choice(WORKERS),), chance.uniform(*freeze_s)),
        Period("kill", (chance.choice(BROKERS),)),
        Period("freeze", (chance.choice(BROKERS),), chance.uniform(*freeze_s)),
        chance.choice(
            (
                Period("kill", (POSTGRES,)),
                Period("freeze", (POSTGRES,), chance.uniform(*freeze_s)),
                Period("full disk", (POSTGRES,), 2.0),
            )
        ),
        chance.choice(
            (
                Period("kill", (REDIS,)),
                Period("freeze", (REDIS,), chance.uniform(*freeze_s)),
                Period("emptied", (REDIS,)),
            )
        ),
        Period("clock", (chance.choice(WORKERS),), chance.choice(JUMPS_S)),
    ]
    chance.shuffle(faults)
    return _with_calm(chance, faults, calm_s=(1.0, 2.0))


def _two(chance: random.Random, of: Sequence[str]) -> tuple[str, ...]:
    return tuple(sorted(chance.sample(of, 2)))


def _with_calm(
    chance: random.Random, faults: list[Period], calm_s: tuple[float, float] = CALM_S
) -> list[Period]:
    share = CALM_SHARE / (1 - CALM_SHARE)
    periods: list[Period] = []
    for number, fault in enumerate(faults, 1):
        periods.append(fault)
        if int(number * share) > int((number - 1) * share):
            periods.append(Period("calm", seconds=chance.uniform(*calm_s)))
    return periods
