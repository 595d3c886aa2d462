"""Teach the bundled Java what a broker needs, once per cache: starts take half as long.

`orderstream up` does so beside its services the first time, as
`python -m orderstream.local.warm_up`. A broker is started on throw-away data, put to work, and when
it ends writes what it loaded and linked, and which of its methods were hot (Java's ahead-of-time
cache, JEP 483 and 515).
"""

import os
import signal
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from confluent_kafka import KafkaException

from orderstream.local import jvm
from orderstream.local.exercise import exercise
from orderstream.local.jars import default_cache, ensure_jars
from orderstream.local.kafka_config import Node, write_config
from orderstream.local.kafka_servers import format_data, launch, wait_until_ready
from orderstream.local.processes import ProcessId, end, free_port, spawn, stand_back, turn

_CLUSTER_ID = "orderstream-warm-up-00"  # Kafka asks for 22 characters.
_WRITTEN_WITHIN_S = 180.0
_EXERCISE_S = 10.0


def warm_up(cache: Path) -> None:
    """Make the ahead-of-time cache unless it is there: about 20 s; safe to run twice at once.

    It appears whole or not at all. Raises Unavailable when the broker does not come up.
    """
    made = jvm.archive(cache)
    with turn(cache / "warm-up.flock"), tempfile.TemporaryDirectory(dir=cache) as scratch:
        if made.exists():
            return
        ensure_jars(cache)
        fresh = Path(scratch) / made.name
        # No turn for the ports, unlike kafka.start: at this priority it would make others wait.
        broker_port = free_port(29092)
        controller_port = free_port(broker_port + 1)
        node = Node(1, Path(scratch) / "node-1", broker_port, controller_port)
        write_config(node, [node])
        format_data([node], _CLUSTER_ID, cache)
        options = [f"-XX:AOTCacheOutput={fresh}"]
        server = launch(node, cache, heap_mb=512, java_options=options)
        stand_back(server.pid)  # A session of its own.
        try:
            wait_until_ready({node: server})
            try:
                exercise(f"127.0.0.1:{broker_port}", _EXERCISE_S)
            except KafkaException as error:  # What it learned until then is worth keeping.
                sys.stderr.write(f"warm-up: the exercise ended early: {error}\n")
            end([server], with_signal=signal.SIGTERM, within_s=_WRITTEN_WITHIN_S)
        except BaseException:
            with suppress(ProcessLookupError):
                os.killpg(
                    server.pid, signal.SIGKILL
                )  # Java writes the cache in a child of its own.
            raise
        if fresh.exists():
            fresh.replace(made)


def begin(home: Path) -> ProcessId | None:
    """Make the cache in a process of its own, at the lowest priority; None where it is there.

    SIGTERM ends it at once, and leaves nothing behind.
    """
    if jvm.archive(default_cache()).exists():
        return None
    return spawn([sys.executable, "-m", __name__], home / "kafka" / "warm-up.log")


if __name__ == "__main__":
    stand_back()
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    warm_up(default_cache())
