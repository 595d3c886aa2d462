"""Each class of librdkafka's errors has one answer, whichever call it comes from."""

from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from orderstream.contract.errors import Fenced, OutcomeUnknown, TransactionAborted, Unavailable
from orderstream.runtime import broker_kafka
from orderstream.runtime.broker_kafka import KafkaSink
from orderstream.runtime.stage import Output

ABORT = "abort_transaction"


def an_error(code: int, **flags: bool) -> KafkaException:
    """Return an error as librdkafka raises it; flags: retriable, txn_requires_abort, fatal."""
    return KafkaException(KafkaError(code, "told so", **flags))


RETRIABLE = an_error(KafkaError._TIMED_OUT, retriable=True)
ABORTABLE = an_error(KafkaError.ILLEGAL_GENERATION, txn_requires_abort=True)
FENCED = an_error(KafkaError._FENCED, fatal=True)
UNKNOWN = an_error(KafkaError._STATE)
FATAL = an_error(KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER, fatal=True)


class ScriptedProducer:
    """In the place of librdkafka's: each call takes the next error of its script, if any."""

    def __init__(self, script: dict[str, list[Exception]]) -> None:
        self._script = script
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Callable[..., None]:
        def call(*_: object, **__: object) -> None:
            self.calls.append(name)
            errors = self._script.get(name)
            if errors:
                raise errors.pop(0)

        return call


class Case:
    """A sink, the producers it has made, and what they are to raise."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.script: dict[str, list[Exception]] = {}
        self.producers: list[ScriptedProducer] = []
        monkeypatch.setattr(broker_kafka, "Producer", self._producer)
        self.sink = KafkaSink({}, "worker-0", lambda: None)

    def _producer(self, _config: dict[str, Any]) -> ScriptedProducer:
        self.producers.append(ScriptedProducer(self.script))
        return self.producers[-1]

    def begun(self, **script: list[Exception]) -> KafkaSink:
        """Return the sink in a transaction; from now on the script is in force."""
        self.sink.ready()
        self.sink.begin()
        self.script |= script
        return self.sink

    @property
    def thrown_away(self) -> bool:
        """Tell whether the next `ready` makes a new producer, which fences the old one."""
        before = len(self.producers)
        self.script.clear()
        self.sink.ready()
        return len(self.producers) > before


@pytest.fixture
def case(monkeypatch: pytest.MonkeyPatch) -> Case:
    return Case(monkeypatch)


class TestACall:
    @pytest.mark.parametrize(
        ("errors", "raised", "aborted", "thrown_away"),
        [
            ([RETRIABLE, RETRIABLE], None, False, False),
            ([ABORTABLE], TransactionAborted, True, False),
            ([RETRIABLE, ABORTABLE], TransactionAborted, True, False),
            ([FENCED], Fenced, False, True),
            ([an_error(KafkaError.PRODUCER_FENCED, txn_requires_abort=True)], Fenced, False, True),
            ([an_error(KafkaError.INVALID_PRODUCER_EPOCH)], Fenced, False, True),
            ([an_error(KafkaError.FENCED_INSTANCE_ID)], Fenced, False, True),
            ([UNKNOWN], TransactionAborted, False, True),
            ([FATAL], TransactionAborted, False, True),
            (
                [an_error(KafkaError._TIMED_OUT, retriable=True, fatal=True)],
                TransactionAborted,
                False,
                True,
            ),
        ],
        ids=[
            "retriable",
            "abortable",
            "retriable, then abortable",
            "fenced",
            "fenced by the broker",
            "an old epoch",
            "an old instance",
            "not classified",
            "fatal",
            "retriable and fatal",
        ],
    )
    def test_has_the_answer_of_its_error(
        self,
        case: Case,
        errors: list[Exception],
        raised: type[Exception] | None,
        aborted: bool,
        thrown_away: bool,
    ) -> None:
        sink = case.begun(send_offsets_to_transaction=list(errors))
        if raised is None:
            sink.send_offsets({})
        else:
            with pytest.raises(raised) as caught:
                sink.send_offsets({})
            assert caught.type is raised
        assert (ABORT in case.producers[0].calls) is aborted
        assert case.thrown_away is thrown_away

    def test_is_repeated_within_its_budget_only(
        self, case: Case, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(broker_kafka, "CALL_BUDGET_S", 0.0)
        sink = case.begun(send_offsets_to_transaction=[RETRIABLE] * 9)
        with pytest.raises(TransactionAborted):
            sink.send_offsets({})
        assert case.producers[0].calls.count("send_offsets_to_transaction") == 1
        assert case.thrown_away


class TestCommit:
    @pytest.mark.parametrize("error", [UNKNOWN, FATAL], ids=["not classified", "fatal"])
    def test_without_an_answer_may_have_happened(self, case: Case, error: Exception) -> None:
        sink = case.begun(commit_transaction=[error])
        with pytest.raises(OutcomeUnknown):
            sink.commit()
        assert case.thrown_away

    def test_that_times_out_for_good_may_have_happened(
        self, case: Case, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(broker_kafka, "CALL_BUDGET_S", 0.0)
        sink = case.begun(commit_transaction=[RETRIABLE])
        with pytest.raises(OutcomeUnknown):
            sink.commit()
        assert case.thrown_away

    def test_refused_has_not_happened(self, case: Case) -> None:
        sink = case.begun(commit_transaction=[ABORTABLE])
        with pytest.raises(TransactionAborted):
            sink.commit()
        assert ABORT in case.producers[0].calls

    def test_of_a_replaced_worker_is_fenced(self, case: Case) -> None:
        with pytest.raises(Fenced, match="worker-0 has a newer incarnation"):
            case.begun(commit_transaction=[FENCED]).commit()


class TestReady:
    @pytest.mark.parametrize("error", [UNKNOWN, FATAL], ids=["not classified", "fatal"])
    def test_without_a_producer_id_kafka_is_away(self, case: Case, error: Exception) -> None:
        case.script["init_transactions"] = [error]
        with pytest.raises(Unavailable, match="no producer id"):
            case.sink.ready()
        assert case.thrown_away

    def test_with_a_producer_in_hand_asks_for_no_other(self, case: Case) -> None:
        case.sink.ready()
        assert not case.thrown_away

    def test_nothing_is_begun_before(self, case: Case) -> None:
        with pytest.raises(TransactionAborted):
            case.sink.begin()


class TestProduce:
    RECORD = Output("t", b"k", b"v", [])

    def test_waits_for_room(self, case: Case) -> None:
        case.begun(produce=[BufferError(), BufferError()]).produce(self.RECORD)
        assert case.producers[0].calls[-5:] == ["produce", "poll", "produce", "poll", "produce"]

    def test_refused_aborts(self, case: Case) -> None:
        sink = case.begun(produce=[UNKNOWN])
        with pytest.raises(TransactionAborted, match="a record was refused"):
            sink.produce(self.RECORD)
        assert ABORT in case.producers[0].calls


class TestAbort:
    @pytest.mark.parametrize("error", [ABORTABLE, UNKNOWN], ids=["abortable", "not classified"])
    def test_that_fails_is_left_to_the_successor(self, case: Case, error: Exception) -> None:
        case.begun(abort_transaction=[error]).abort()
        assert case.thrown_away

    def test_of_nothing_is_nothing(self, case: Case) -> None:
        case.sink.abort()
        assert case.producers == []

    def test_of_a_replaced_worker_is_fenced(self, case: Case) -> None:
        with pytest.raises(Fenced):
            case.begun(abort_transaction=[FENCED]).abort()


class TestClose:
    @pytest.mark.parametrize("errors", [[], [UNKNOWN]], ids=["open", "nothing open"])
    def test_aborts_what_is_open(self, case: Case, errors: list[Exception]) -> None:
        case.begun(abort_transaction=errors).close()
        assert case.producers[0].calls[-1] == ABORT
        assert case.thrown_away
