"""Who did what in the console, and when: records of a topic that Kafka keeps for ever."""

from collections.abc import Mapping
from contextlib import closing
from typing import Any

import msgspec
import structlog

from orderstream.contract.envelope import rfc3339
from orderstream.contract.errors import OrderstreamError, OutcomeUnknown, Unavailable
from orderstream.runtime.admin import Admin
from orderstream.runtime.clock import Clock
from orderstream.runtime.log_reader import LogReader
from orderstream.runtime.sender import Sender
from orderstream.runtime.topic_settings import Wanted

SHOWN_MAX = 500

log = structlog.get_logger("orderstream.console")


class Entry(msgspec.Struct, frozen=True):
    """One line of it."""

    at: str
    who: str
    action: str
    target: str
    result: str
    detail: str


_decode = msgspec.json.Decoder(Entry).decode


class Trail:
    """The audit log. What an operator does is written down first, and its result afterwards.

    A crash between the two leaves an entry without a result: it may have been done.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        topic: str,
        group: str,
        clock: Clock,
        replicas: int | None = None,
    ) -> None:
        self._config = dict(config)
        self._topic = topic
        self._group = group
        self._clock = clock
        self._replicas = replicas
        self._sender = Sender(config)

    def create(self) -> None:
        """Make the topic if it is missing; its one partition keeps the sequence."""
        wanted = Wanted(self._topic, 1, {"retention.ms": "-1"})
        Admin(self._config).create_wanted([wanted], self._replicas)

    def begin(self, who: str, action: str, target: str, detail: str = "") -> None:
        """Say what is about to be done. Raises Unavailable: then it must not be done."""
        try:
            self._write(who, action, target, "asked", detail)
        except OutcomeUnknown as error:
            raise Unavailable(
                f"the audit log cannot be written, nothing was done: {error}"
            ) from error

    def end(self, who: str, action: str, target: str, result: str, detail: str = "") -> None:
        """Say what came of it, if Kafka can take it: it is done all the same."""
        try:
            self._write(who, action, target, result, detail)
        except OrderstreamError as error:
            log.warning("a result is missing in the audit log", target=target, reason=str(error))

    def _write(self, who: str, action: str, target: str, result: str, detail: str) -> None:
        entry = Entry(rfc3339(self._clock()), who, action, target, result, detail)
        log.info("operator", who=who, action=action, target=target, result=result)
        self._sender.send(self._topic, who.encode(), msgspec.json.encode(entry))

    def newest(self, limit: int) -> list[dict[str, Any]]:
        """Return the last entries, newest first. Raises Unavailable."""
        with closing(LogReader(self._config, self._group)) as reader:
            partitions = reader.partitions([self._topic])
            ends = reader.stable_ends(partitions)
            begins = {at: max(0, end - min(limit, SHOWN_MAX)) for at, end in ends.items()}
            entries: list[dict[str, Any]] = []
            for records in reader.read({at: end for at, end in ends.items() if end}, begins):
                for record in records:
                    try:
                        entry = _decode(record.value() or b"")
                    except msgspec.DecodeError:
                        continue  # Somebody else's: the topics page shows it.
                    entries.append(msgspec.structs.asdict(entry) | {"offset": record.offset()})
        return entries[::-1][:limit]
