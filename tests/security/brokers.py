"""A real broker that lets nobody in without a password or a certificate."""

import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from orderstream.local import jvm
from orderstream.local.jars import default_cache, ensure_jars
from orderstream.local.kafka_config import Node, write_config
from orderstream.local.kafka_servers import launch
from orderstream.local.processes import end
from tests.ports import own_port
from tests.security.certificates import KEY_PASSWORD, Certificates
from tests.waiting import until

USER = "orders"
PASSWORD = "scram-password-59"
_SECURITY = "org.apache.kafka.common.security"


class SecureKafka:
    """Its listeners: SCRAM over TLS, PLAIN over TLS, SCRAM without TLS, and certificates.

    `more` are properties of the server's; one more listener, `admin`, lets anybody in.
    """

    def __init__(
        self, folder: Path, certificates: Certificates, more: Mapping[str, str] | None = None
    ) -> None:
        self._certificates = certificates
        self._more = more or {}
        first = own_port()
        broker, controller, *secure = range(first, first + 6)
        self._ports: dict[str, int] = dict(
            zip(("scram", "plain", "bare", "mutual"), secure, strict=True)
        )
        self._node = Node(1, folder / "node-1", broker, controller)

    @property
    def admin(self) -> str:
        """Where it can be reached without a password."""
        return f"127.0.0.1:{self._node.broker_port}"

    def settings(self, listener: str, **changed: str) -> dict[str, str]:
        """Return the settings that get in by this listener."""
        own = self._certificates
        protocol = {"bare": "SASL_PLAINTEXT", "mutual": "SSL"}.get(listener, "SASL_SSL")
        given = {
            "KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{self._ports[listener]}",
            "KAFKA_SECURITY_PROTOCOL": protocol,
        }
        if protocol.startswith("SASL"):
            given["KAFKA_SASL_MECHANISM"] = "PLAIN" if listener == "plain" else "SCRAM-SHA-256"
            given |= {"KAFKA_SASL_USERNAME": USER, "KAFKA_SASL_PASSWORD": PASSWORD}
        if protocol.endswith("SSL"):
            given["KAFKA_SSL_CA_LOCATION"] = str(own.authority)
        if listener == "mutual":
            given["KAFKA_SSL_CERTIFICATE_LOCATION"] = str(own.certificate("client"))
            given["KAFKA_SSL_KEY_LOCATION"] = str(own.key("client"))
            given["KAFKA_SSL_KEY_PASSWORD"] = KEY_PASSWORD
        return given | changed

    @contextmanager
    def running(self) -> Iterator["SecureKafka"]:
        """Start it, and end it afterwards."""
        cache = default_cache()
        ensure_jars(cache)
        node = self._node
        write_config(node, [node])
        with node.properties.open("a") as properties:  # Of two with one name the last counts.
            properties.writelines(f"{name}={value}\n" for name, value in self._properties().items())
        users = [
            f"SCRAM-SHA-{bits}=[name={USER},password={PASSWORD},iterations=4096]"
            for bits in (256, 512)
        ]
        adding = [word for user in users for word in ("--add-scram", user)]
        arguments = ("format", "--cluster-id=AAAAAAAAAAAAAAAAAAAAAA", f"--config={node.properties}")
        tool = jvm.command(
            *("kafka.tools.StorageTool", *arguments, *adding),
            cache=cache,
            heap_mb=128,
            log4j=node.logging,
        )
        subprocess.run(tool, check=True, capture_output=True)
        server = launch(node, cache, heap_mb=384)
        try:
            until(self._answers, what="the broker answers")
            yield self
        finally:
            end([server], with_signal=signal.SIGTERM, within_s=10)

    def _answers(self) -> bool:
        client = AdminClient({"bootstrap.servers": self.admin, "log_level": 0})
        try:
            return bool(client.list_topics(timeout=1).brokers)
        except KafkaException:
            return False

    def _properties(self) -> dict[str, str]:
        own, at = self._certificates, "127.0.0.1"
        brokers = {"broker": self._node.broker_port, **self._ports}
        named = ",".join(f"{name.upper()}://{at}:{port}" for name, port in brokers.items())
        plain = f'{_SECURITY}.plain.PlainLoginModule required user_{USER}="{PASSWORD}";'
        scram = f"{_SECURITY}.scram.ScramLoginModule required;"
        found = {
            "listeners": f"{named},CONTROLLER://{at}:{self._node.controller_port}",
            "advertised.listeners": named,
            "listener.security.protocol.map": "BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT,"
            "SCRAM:SASL_SSL,PLAIN:SASL_SSL,BARE:SASL_PLAINTEXT,MUTUAL:SSL",
            "listener.name.plain.sasl.enabled.mechanisms": "PLAIN",
            "listener.name.plain.plain.sasl.jaas.config": plain,
            "listener.name.mutual.ssl.client.auth": "required",
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(own.both("server")),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(own.authority),
        }
        for name in ("scram", "bare"):
            prefix = f"listener.name.{name}"
            found[f"{prefix}.sasl.enabled.mechanisms"] = "SCRAM-SHA-256,SCRAM-SHA-512"
            for bits in (256, 512):
                found[f"{prefix}.scram-sha-{bits}.sasl.jaas.config"] = scram
        return {**found, **self._more}
