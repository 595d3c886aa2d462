"""The servers of a local Kafka: format their data, launch them, wait until they serve."""

import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from orderstream.contract.errors import Unavailable
from orderstream.local import jvm
from orderstream.local.kafka_config import Node
from orderstream.local.processes import ProcessId, free_port, spawn

READY_WITHIN_S = 60.0


def format_data(nodes: Sequence[Node], cluster_id: str, cache: Path) -> None:
    """Make the data folders that are not there yet; Unavailable when Kafka's own tool fails.

    The tool writes `meta.properties` last, so a crash here is simply repeated.
    """
    tools: list[tuple[Node, subprocess.Popen[str]]] = []
    for node in nodes:
        if not (node.data / "meta.properties").exists():
            arguments = ("format", f"--cluster-id={cluster_id}", f"--config={node.properties}")
            line = jvm.command(
                "kafka.tools.StorageTool", *arguments, cache=cache, heap_mb=128, log4j=node.logging
            )
            pipe, quiet = subprocess.PIPE, subprocess.DEVNULL
            tool = subprocess.Popen(
                line, stdin=quiet, stdout=pipe, stderr=subprocess.STDOUT, text=True
            )
            tools.append((node, tool))
    said = [tool.communicate()[0].strip() for _, tool in tools]
    for (node, tool), words in zip(tools, said, strict=True):
        if tool.returncode != 0:
            raise Unavailable(f"Kafka could not make its data folder {node.data}:\n{words}")


def launch(node: Node, cache: Path, *, heap_mb: int, java_options: Sequence[str] = ()) -> ProcessId:
    """Start one server, detached; it is not ready yet."""
    line = jvm.command(
        "kafka.Kafka",
        node.properties,
        cache=cache,
        heap_mb=heap_mb,
        log4j=node.logging,
        java_options=java_options,
    )
    return spawn(line, node.output)


def wait_until_ready(servers: Mapping[Node, ProcessId]) -> None:
    """Return once every broker answers, registered and in service.

    Raises Unavailable with the last lines of its log when one ends, or is not ready after 60 s.
    """
    deadline = time.monotonic() + READY_WITHIN_S
    while not all(free_port(node.broker_port) != node.broker_port for node in servers):
        _check(servers, deadline)
        time.sleep(0.02)
    while not _all_in_service(servers):
        _check(servers, deadline)
        time.sleep(0.02)


def _all_in_service(servers: Mapping[Node, ProcessId]) -> bool:
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient

    client = AdminClient(
        {
            "bootstrap.servers": ",".join(f"127.0.0.1:{node.broker_port}" for node in servers),
            "reconnect.backoff.max.ms": 100,
            "log_level": 0,
        }
    )
    try:
        listed = client.list_topics(timeout=2.0).brokers  # Only those registered and unfenced.
    except KafkaException:
        return False
    return set(listed) == {node.number for node in servers}


def _check(servers: Mapping[Node, ProcessId], deadline: float) -> None:
    for node, server in servers.items():
        if not server.alive():
            raise Unavailable(f"Kafka ended while it was starting:\n{_last_words(node)}")
    if time.monotonic() > deadline:
        words = "\n".join(_last_words(node) for node in servers)
        raise Unavailable(f"Kafka was not ready after {READY_WITHIN_S:.0f} s:\n{words}")


def _last_words(node: Node) -> str:
    paths = [path for path in (node.output, node.log) if path.exists()]
    return "\n".join(
        line for path in paths for line in path.read_text("utf-8", "replace").splitlines()[-8:]
    )
