"""Kafka's clients for questions: made, and asked, so that a fault of ours is told from an outage.

librdkafka says of a wrong password only "transport failure", and the reason to its error callback.
"""

import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from time import monotonic, sleep
from typing import Any, TypeVar

from confluent_kafka import IsolationLevel, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    OffsetSpec,  # pyright: ignore[reportPrivateImportUsage]
)

from orderstream.contract.errors import ConfigurationError, Unavailable
from orderstream.runtime.stage import Partition, Positions

FIRST_TRY_S = 1.0
ASK_AGAIN_S = 0.05
# For a moment after a topic was made, or a leader was lost.
BETWEEN_LEADERS = frozenset(
    {
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError.UNKNOWN_LEADER_EPOCH,
        KafkaError.OFFSET_NOT_AVAILABLE,
        KafkaError._NOENT,  # librdkafka's: it knows a leader of none of the partitions.
    }
)

# Of a producer: a record is confirmed when every in-sync replica has it, and stands there once; its
# partition is the one that Java's clients choose for its key.
DURABLE: dict[str, Any] = {
    "enable.idempotence": True,
    "acks": "all",
    "partitioner": "murmur2_random",
}

# What librdkafka has to say goes to the log like all else; a client says it when it is polled.
LOGGED: dict[str, Any] = {"logger": logging.getLogger("orderstream.librdkafka")}

C = TypeVar("C")
T = TypeVar("T")


class NotLetIn(Unavailable):
    """Kafka is there and refuses us: it will not get better by itself."""


def made(kind: Callable[[Any], C], config: Mapping[str, Any]) -> C:
    """Return a client. Raises ConfigurationError for a file or password that it cannot use."""
    try:
        return kind(dict(config))
    except KafkaException as error:
        raise ConfigurationError(f"KAFKA_...: {error.args[0].str()}") from None


def asked_again(ask: Callable[[], T], passing: Collection[int], timeout_s: float, what: str) -> T:
    """Return the answer, asking again while it is an error that passes. Raises Unavailable."""
    deadline = monotonic() + timeout_s
    while True:
        try:
            return ask()
        except KafkaException as error:
            reason: KafkaError = error.args[0]
            if reason.code() not in passing or monotonic() > deadline:
                raise Unavailable(f"{what}: {reason.str()}") from error
        sleep(ASK_AGAIN_S)


class Asker:
    """An admin client that knows why Kafka does not let it in."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._refusal: str | None = None
        self.client: Any = made(AdminClient, {**config, "error_cb": self._error})

    def _error(self, error: KafkaError) -> None:
        if error.code() == KafkaError._AUTHENTICATION:  # pyright: ignore[reportPrivateUsage]
            names = "KAFKA_SASL_MECHANISM, KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD"
        elif error.code() == KafkaError._SSL or "SSL" in error.str():  # pyright: ignore[reportPrivateUsage]
            names = "KAFKA_SECURITY_PROTOCOL and KAFKA_SSL_..."
        else:
            return
        self._refusal = f"Kafka does not let us in: {error.str()}: check {names}"

    def cluster(self, timeout_s: float) -> Any:
        """Return the cluster's metadata. Raises NotLetIn, or Unavailable when there is no answer.

        Looks early why there is none: to wait longer for a door that is locked is no use.
        """
        deadline = monotonic() + timeout_s
        wait_s = min(timeout_s, FIRST_TRY_S)
        while True:
            try:
                found = self.client.list_topics(timeout=wait_s)
            except KafkaException as error:
                self.client.poll(0)
                if self._refusal is not None:
                    said, self._refusal = self._refusal, None
                    raise NotLetIn(said) from None
                wait_s = deadline - monotonic()
                if wait_s < FIRST_TRY_S / 10:
                    raise Unavailable(f"Kafka is away: {error.args[0].str()}") from error
            else:
                self._refusal = None
                return found

    def offsets(
        self,
        partitions: Iterable[Partition],
        spec: OffsetSpec | None,
        isolation: IsolationLevel,
        timeout_s: float,
    ) -> Positions:
        """Return the offset of each partition that `spec` asks for. Raises Unavailable.

        A partition that is between two leaders is waited for.
        """
        wanted = {TopicPartition(*partition): spec for partition in partitions}
        if not wanted:
            return {}

        def ask() -> Positions:
            futures = self.client.list_offsets(
                wanted, isolation_level=isolation, request_timeout=timeout_s
            )
            return {(p.topic, p.partition): f.result().offset for p, f in futures.items()}

        return asked_again(ask, BETWEEN_LEADERS, timeout_s, "offsets")
