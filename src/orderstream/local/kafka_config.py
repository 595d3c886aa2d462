"""What the local brokers are told: their properties and how they log."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Node:
    """One server: broker and controller in one process, on two ports of 127.0.0.1."""

    number: int
    folder: Path
    broker_port: int
    controller_port: int

    @property
    def data(self) -> Path:
        """Where Kafka keeps the log."""
        return self.folder / "data"

    @property
    def properties(self) -> Path:
        """The file the server reads at start."""
        return self.folder / "server.properties"

    @property
    def logging(self) -> Path:
        """The file its logger reads at start."""
        return self.folder / "log4j2.properties"

    @property
    def log(self) -> Path:
        """What the server says: warnings and errors, 30 MB at most."""
        return self.folder / "server.log"

    @property
    def output(self) -> Path:
        """What the JVM itself says: nothing, as long as all is well."""
        return self.folder / "output.log"


def write_config(node: Node, cluster: list[Node]) -> None:
    """Write both files anew; ports may have changed since the last start."""
    node.folder.mkdir(parents=True, exist_ok=True)
    properties = _server_properties(node, cluster)
    node.properties.write_text("".join(f"{k}={v}\n" for k, v in properties.items()), "utf-8")
    node.logging.write_text(_LOGGING.format(log=_escaped(node.log)), "utf-8")


def _server_properties(node: Node, cluster: list[Node]) -> dict[str, object]:
    copies = len(cluster)
    in_sync = 2 if copies == 3 else 1
    return {
        "process.roles": "broker,controller",
        "node.id": node.number,
        # Static voters: all three may come back on other ports at once.
        "controller.quorum.voters": ",".join(
            f"{peer.number}@127.0.0.1:{peer.controller_port}" for peer in cluster
        ),
        "listeners": f"BROKER://127.0.0.1:{node.broker_port},"
        f"CONTROLLER://127.0.0.1:{node.controller_port}",
        "advertised.listeners": f"BROKER://127.0.0.1:{node.broker_port}",
        "listener.security.protocol.map": "BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "BROKER",
        "controller.listener.names": "CONTROLLER",
        "log.dirs": _escaped(node.data),
        # After kill -9 the next start waits until the dead broker's session is over.
        "broker.session.timeout.ms": 2_000 if copies == 1 else 4_000,
        "broker.heartbeat.interval.ms": 300 if copies == 1 else 600,
        "default.replication.factor": copies,
        "min.insync.replicas": in_sync,
        "offsets.topic.replication.factor": copies,
        "transaction.state.log.replication.factor": copies,
        "transaction.state.log.min.isr": in_sync,
        "share.coordinator.state.topic.replication.factor": copies,
        "share.coordinator.state.topic.min.isr": in_sync,
        # Few, so that the first group and the first transaction do not wait for 50 each.
        "offsets.topic.num.partitions": 8,
        "transaction.state.log.num.partitions": 8,
        "share.coordinator.state.topic.num.partitions": 8,
        "group.initial.rebalance.delay.ms": 0,
        "auto.create.topics.enable": "false",
        # Orders are kept, and so is how far each service has read them.
        "log.retention.ms": -1,
        "offsets.retention.minutes": 10 * 366 * 24 * 60,
        "message.max.bytes": 2 * 1024 * 1024,
        "transaction.max.timeout.ms": 60_000,
        # The default cleaner buffer alone would be a quarter of the heap.
        "log.cleaner.dedupe.buffer.size": 16 * 1024 * 1024,
        # With the default of 1,000 requests that were answered, 6 MB of them are still held, and
        # copied, whenever garbage is collected.
        "fetch.purgatory.purge.interval.requests": 50,
        "producer.purgatory.purge.interval.requests": 50,
        "num.network.threads": 2,
        "num.io.threads": 4,
        "background.threads": 4,
    }


def _escaped(path: Path) -> str:
    return str(path).replace("\\", "\\\\")


_LOGGING = """\
status = error
shutdownHook = disable
appender.file.type = RollingFile
appender.file.name = file
appender.file.fileName = {log}
appender.file.filePattern = {log}.%i
appender.file.layout.type = PatternLayout
appender.file.layout.pattern = %d %p %c{{1}}: %m%n
appender.file.policies.type = SizeBasedTriggeringPolicy
appender.file.policies.size = 10MB
appender.file.strategy.type = DefaultRolloverStrategy
appender.file.strategy.max = 2
rootLogger.level = warn
rootLogger.appenderRef.file.ref = file
"""
