"""Runs a stage of ours as its service would, crashed where a script says."""

from orderstream.runtime import crashing
from orderstream.runtime.broker_memory import MemoryBroker, MemorySource
from orderstream.runtime.crashing import (
    Crash,
    Script,
    ScriptedDatabase,
    ScriptedSink,
    ScriptedSource,
)
from orderstream.runtime.failure import RetryPolicy
from orderstream.runtime.loop import Loop
from orderstream.runtime.observe import StageMetrics
from orderstream.runtime.positions import StoredPositions
from orderstream.runtime.stage import Keeps, Stage
from tests.builders import NOON

GROUP = "test"
RECORDS_MAX = 4
__all__ = ["GROUP", "RECORDS_MAX", "Crash", "Script", "ScriptedDatabase", "run_until_idle"]


def run_until_idle(
    stage: Stage, broker: MemoryBroker, database: ScriptedDatabase, script: Script
) -> Script:
    """Run the stage until it has read everything, starting it again after each crash."""
    database.script = script
    return crashing.run_until_idle(lambda: _new_loop(stage, broker, database, script), script)


def _new_loop(
    stage: Stage, broker: MemoryBroker, database: ScriptedDatabase, script: Script
) -> Loop:
    in_store = stage.keeps is Keeps.OFFSETS_IN_STORE
    positions = StoredPositions(database) if in_store else None
    source = MemorySource(broker, GROUP, stage.reads, positions)
    return Loop(
        stage,
        GROUP,
        ScriptedSource(source, script),
        ScriptedSink(broker, GROUP, script),
        database,
        clock=lambda: NOON,
        policy=RetryPolicy(attempts=2, backoff_ms=0),
        dead_letter_suffix=".DLT",
        metrics=StageMetrics("test"),
        records_max=RECORDS_MAX,
        positions=positions,
    )
