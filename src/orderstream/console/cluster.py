"""What librdkafka's admin client cannot ask: bytes on disk, and many groups' offsets at once.

Asked with kafka-python, which knows the whole admin protocol (docs/decisions/0028). It is loaded
when the first such question comes: no other process pays for it.
"""

import logging
from collections.abc import Collection, Mapping
from threading import Lock
from typing import Any

from orderstream.contract.errors import Unavailable
from orderstream.runtime.stage import Partition, Positions

TIMEOUT_MS = 5_000
_LOG = "kafka"  # Its own logger: what it says, we raise.
# librdkafka's names for what a connection needs, and kafka-python's.
_OPTIONS = {
    "bootstrap.servers": "bootstrap_servers",
    "security.protocol": "security_protocol",
    "sasl.mechanism": "sasl_mechanism",
    "sasl.username": "sasl_plain_username",
    "sasl.password": "sasl_plain_password",
    "ssl.ca.location": "ssl_cafile",
    "ssl.certificate.location": "ssl_certfile",
    "ssl.key.location": "ssl_keyfile",
    "ssl.key.password": "ssl_password",
}


class Cluster:
    """One cluster; any thread may call. Every method raises Unavailable."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        known = {_OPTIONS[name]: value for name, value in config.items() if name in _OPTIONS}
        self._options: dict[str, Any] = known | {
            "client_id": "orderstream-console",
            "request_timeout_ms": TIMEOUT_MS,
            "bootstrap_timeout_ms": TIMEOUT_MS,
            "reconnect_backoff_max_ms": 1_000,
        }
        self._client: Any = None
        self._one_at_a_time = Lock()

    def close(self) -> None:
        """Let go of the connections."""
        with self._one_at_a_time:
            self._drop()

    def sizes(self, topics: Collection[str] | None = None) -> dict[Partition, int]:
        """Return the bytes of each partition's log, of its greatest replica: of all, or of some."""
        found: dict[Partition, int] = {}
        wanted = None if topics is None else list(topics)
        for broker in self._ask("describe_log_dirs", wanted):
            for folder in broker["log_dirs"]:
                for topic in folder["topics"]:
                    for one in topic["partitions"]:
                        at = topic["name"], one["partition_index"]
                        # Not the copy that is being moved to another disk.
                        if not one["is_future_key"]:
                            found[at] = max(found.get(at, 0), one["partition_size"])
        return found

    def committed(self, groups: Collection[str]) -> dict[str, Positions]:
        """Return where groups read on: one question for all of them to each coordinator."""
        if not groups:
            return {}
        answer = self._ask("list_group_offsets", list(groups))
        return {
            group: {(at.topic, at.partition): said.offset for at, said in offsets.items()}
            for group, offsets in answer.items()
        }

    def _ask(self, method: str, *arguments: Any) -> Any:
        from kafka.errors import KafkaError  # pyright: ignore[reportMissingTypeStubs]

        with self._one_at_a_time:
            try:
                return getattr(self._made(), method)(*arguments)
            except (KafkaError, OSError, ValueError) as error:
                self._drop()  # Whatever it was: the next question begins anew.
                said = str(error) or type(error).__name__
                raise Unavailable(f"Kafka does not say: {said}") from error

    def _made(self) -> Any:
        if self._client is None:
            from kafka.admin import (  # pyright: ignore[reportMissingTypeStubs]
                KafkaAdminClient,
            )

            log = logging.getLogger(_LOG)
            log.addHandler(logging.NullHandler())
            log.propagate = False
            self._client = KafkaAdminClient(**self._options)
        return self._client

    def _drop(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()
