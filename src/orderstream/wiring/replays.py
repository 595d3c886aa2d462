"""Replays: of a service, and of a consumer of a user's own."""

import time

from orderstream.contract.errors import Unavailable
from orderstream.extension.registry import Registered
from orderstream.flow import SCHEMAS
from orderstream.local.holding import held_back
from orderstream.readers import own_consumers
from orderstream.runtime.clock import monotonic
from orderstream.runtime.database import Database
from orderstream.runtime.replay import Plan, Replay, Target
from orderstream.runtime.settings import Settings
from orderstream.runtime.stage import Keeps
from orderstream.wiring.stages import stage_parts

REPLAY_EMPTY_WITHIN_S = 30.0  # A worker ends within 6 s, and Kafka forgets it 6 s later.
REBUILT = frozenset({"view", "analytics"})  # Their rows are what the log says, and no more.


def replay_of(name: str, settings: Settings) -> Replay:
    """Return the replay of a stage, ours or a user's own. Raises KeyError for an unknown name."""
    if name not in SCHEMAS:
        return _replay_of_own(own_consumers(settings)[name], settings)
    database = Database(settings.dsn(), SCHEMAS[name])
    stage = stage_parts(name, settings, database).stage
    database.close()
    return Replay(
        stage.reads,
        stage.keeps,
        settings.group(stage.name),
        SCHEMAS[name],
        settings.dsn(),
        settings.kafka(),
        rebuilds=name in REBUILT,
        dead_letter_suffix=settings.dead_letter_suffix,
    )


def own_replays(settings: Settings) -> dict[str, Replay]:
    """Return the replays of all consumers of a user's own, by name. Raises Unavailable."""
    return {name: _replay_of_own(own, settings) for name, own in own_consumers(settings).items()}


def _replay_of_own(found: Registered, settings: Settings) -> Replay:
    return Replay(
        found.reads,
        Keeps.OFFSETS_IN_KAFKA,
        found.group,
        found.schema,
        settings.dsn(),
        settings.kafka(),
        rebuilds=found.rebuild,
        dead_letter_suffix=settings.dead_letter_suffix,
        retries=found.retries,
    )


def replay_held_back(name: str, settings: Settings, target: Target) -> Plan:
    """Stop a service that `orderstream up` runs here, have it read again, and start it again.

    A consumer of a user's own is the user's to stop. Raises Unavailable when no `up` runs here,
    or when the service runs elsewhere, too.
    """
    job = replay_of(name, settings)
    if name not in SCHEMAS:
        if members := job.members():
            raise Unavailable(f"{name} runs: {', '.join(members)}; stop it first")
        plan = job.plan(target)
        job.run(plan)
        return plan
    with held_back(settings.home, name):
        deadline = monotonic() + REPLAY_EMPTY_WITHIN_S
        while members := job.members():
            if monotonic() > deadline:
                raise Unavailable(
                    f"{name} still runs, elsewhere perhaps: {', '.join(members)}; nothing was done"
                )
            time.sleep(0.2)
        plan = job.plan(target)  # It may have gone on meanwhile.
        job.run(plan)
        return plan
