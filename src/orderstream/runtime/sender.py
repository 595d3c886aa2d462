"""Sends single records, each awaited: for what people do, not for the flow (publisher.py)."""

from collections.abc import Mapping, Sequence
from threading import Lock
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from orderstream.contract.errors import OutcomeUnknown, Unavailable
from orderstream.runtime.clients import DURABLE, made

CONFIRM_TIMEOUT_S = 5.0


class Sender:
    """Sends one record at a time; connects with the first."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._config = dict(config)
        self._lock = Lock()
        self._producer: Producer | None = None

    def send(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[tuple[str, bytes]] = (),
        partition: int | None = None,
    ) -> tuple[int, int]:
        """Return the record's partition and offset once every in-sync replica has it.

        Raises Unavailable when it was not sent, and OutcomeUnknown when nobody knows.
        """
        told: list[tuple[KafkaError | None, Message]] = []
        where: dict[str, Any] = {} if partition is None else {"partition": partition}
        with self._lock:
            producer = self._connected()
            try:
                producer.produce(
                    topic,
                    value,
                    key,
                    headers=list(headers),
                    on_delivery=lambda error, message: told.append((error, message)),
                    **where,
                )
            except (KafkaException, BufferError) as error:
                raise Unavailable(f"Kafka refused the record: {error}") from error
            producer.flush(CONFIRM_TIMEOUT_S + 1)
        error, message = told[0] if told else (None, None)
        if message is None or error is not None:
            said = "in time" if error is None else f": {error.str()}"
            raise OutcomeUnknown(f"Kafka did not confirm the record {said}")
        return message.partition() or 0, message.offset() or 0

    def _connected(self) -> Producer:
        if self._producer is None:
            self._producer = made(
                Producer,
                self._config
                | DURABLE
                | {
                    "linger.ms": 0,
                    "message.timeout.ms": int(CONFIRM_TIMEOUT_S * 1000),
                    "log_level": 2,
                },
            )
        return self._producer
