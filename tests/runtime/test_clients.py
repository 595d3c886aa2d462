"""A partition that is between two leaders is no outage."""

from concurrent.futures import Future
from typing import Any

import pytest
from confluent_kafka import IsolationLevel, KafkaError, KafkaException
from confluent_kafka.admin import (
    ListOffsetsResultInfo,  # pyright: ignore[reportPrivateImportUsage]
    OffsetSpec,  # pyright: ignore[reportPrivateImportUsage]
)

from orderstream.contract.errors import Unavailable
from orderstream.runtime import clients
from orderstream.runtime.clients import Asker

AT = ("orders", 0)


class ScriptedClient:
    """In the place of librdkafka's: each question gets the next error of its script, if any."""

    def __init__(self, _config: dict[str, Any], script: list[int]) -> None:
        self._script = script

    def list_offsets(self, wanted: dict[Any, Any], **_: object) -> dict[Any, Future[Any]]:
        found: Future[Any] = Future()
        if self._script:
            found.set_exception(KafkaException(KafkaError(self._script.pop(0), "told so")))
        else:
            found.set_result(ListOffsetsResultInfo(7, -1, 0))
        return dict.fromkeys(wanted, found)


def offset(monkeypatch: pytest.MonkeyPatch, *script: int, timeout_s: float = 5) -> int:
    left = list(script)
    monkeypatch.setattr(clients, "AdminClient", lambda config: ScriptedClient(config, left))
    latest = OffsetSpec.latest()
    return Asker({}).offsets([AT], latest, IsolationLevel.READ_COMMITTED, timeout_s)[AT]


class TestOffsets:
    def test_of_a_new_topic_are_there_once_it_has_a_leader(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        nobody_yet = (KafkaError.LEADER_NOT_AVAILABLE, KafkaError.NOT_LEADER_FOR_PARTITION)
        assert offset(monkeypatch, *nobody_yet) == 7

    def test_are_not_waited_for_longer_than_allowed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(Unavailable, match="offsets: told so"):
            offset(monkeypatch, KafkaError.NOT_LEADER_FOR_PARTITION, timeout_s=0)

    def test_that_are_refused_are_asked_for_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(Unavailable, match="offsets: told so"):
            offset(monkeypatch, KafkaError.TOPIC_AUTHORIZATION_FAILED)
