"""Redriving on a real broker: each dead letter once, whoever crashes or is at it as well."""

import os
import signal
import struct
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from orderstream.contract.errors import OrderstreamError, OutcomeUnknown, TransactionAborted
from orderstream.dead_letters.desk import Change, DeadLetters, Found, Nowhere, Unknown
from orderstream.dead_letters.ledger import Ledger, Spot
from orderstream.dead_letters.rules import Place, Wanted, edited
from orderstream.runtime.broker_kafka import KafkaSink
from orderstream.runtime.settings import Settings
from orderstream.runtime.stage import Output, Record
from orderstream.wiring.dead_letters import dead_letters
from tests.conftest import SettingsOf
from tests.kafka.topics import create, decided, headers_of, keys, put, read
from tests.kafka.workers import Workers, stock
from tests.waiting import together, until

BY = Change("ann")
CALLS = ("ready", "begin", "produce", "commit")


@pytest.fixture
def settings(settings_of: SettingsOf) -> Settings:
    return create(settings_of())


def springs(settings: Settings, number: int, offset: int = 3) -> Output:
    """Return a dead letter as Spring Kafka's recoverer writes it."""
    return Output(
        settings.topics.order_created_dead,
        str(number).encode(),
        b'{"orderId":%d,"items":[{"sku":"FAIL","qty":1}]}' % number,
        [
            ("traceparent", b"00-a-b-01"),
            ("kafka_dlt-original-topic", settings.topics.order_created.encode()),
            ("kafka_dlt-original-partition", struct.pack(">i", 0)),
            ("kafka_dlt-original-offset", struct.pack(">q", offset)),
            ("kafka_dlt-original-consumer-group", settings.group("inventory").encode()),
            ("kafka_dlt-exception-fqcn", b"java.lang.IllegalStateException"),
            ("kafka_dlt-exception-message", b"boom"),
        ],
    )


def desk_of(settings: Settings) -> DeadLetters:
    return dead_letters(settings)


def open_ones(settings: Settings, wanted: Wanted | None = None) -> list[Found]:
    return list(desk_of(settings).find(wanted or Wanted()))


def redrive_all(settings: Settings, change: Change = BY) -> int:
    desk = desk_of(settings)
    return desk.handle((found.letter for found in desk.find(Wanted())), change).now


def put_back(settings: Settings) -> list[str]:
    return keys(read(settings, settings.topics.order_created))


class TestARedrive:
    def test_puts_the_record_back_with_its_history(self, settings: Settings) -> None:
        letter = springs(settings, 1)
        put(settings, letter._replace(headers=[*letter.headers, ("retry_topic-attempts", b"\x02")]))
        assert redrive_all(settings) == 1
        (record,) = read(settings, settings.topics.order_created)
        assert (record.key(), record.value()) == (letter.key, letter.value)
        assert headers_of(record) == letter.headers

    def test_is_done_once_however_often_it_is_asked_for(self, settings: Settings) -> None:
        put(settings, *(springs(settings, number) for number in range(1200)))
        found = open_ones(settings)
        desk = desk_of(settings)
        done = desk.handle([entry.letter for entry in found], BY)
        again = desk.handle([entry.letter for entry in found], BY)
        assert (done.now, done.before, again.now, again.before) == (1200, 0, 0, 1200)
        assert len(put_back(settings)) == 1200
        assert open_ones(settings) == []
        (first, *_) = desk.find(Wanted(order="7"), handled=True)
        assert first.handled is not None
        assert (first.handled.action, first.handled.by) == ("redriven", "ann")
        assert first.handled.to == settings.topics.order_created

    def test_of_some_leaves_the_others_open(self, settings: Settings) -> None:
        put(settings, *(springs(settings, number) for number in range(5)))
        desk = desk_of(settings)
        desk.handle((found.letter for found in desk.find(Wanted(order="3"))), BY)
        assert put_back(settings) == ["3"]
        assert sorted(found.letter.order or "" for found in desk.find(Wanted())) == list("0124")

    def test_of_a_changed_payload(self, settings: Settings) -> None:
        put(settings, springs(settings, 1))
        (found,) = open_ones(settings)
        value = edited(found.letter.value, [("items[0].sku", "MUG")])
        desk_of(settings).handle([found.letter], Change("ann", value=value))
        (record,) = read(settings, settings.topics.order_created)
        assert record.value() == b'{"orderId":1,"items":[{"sku":"MUG","qty":1}]}'
        again = desk_of(settings).get(found.letter.place)
        assert again.letter == found.letter
        assert again.handled is not None
        assert again.handled.edited

    def test_without_a_known_origin_says_so_and_goes_where_it_is_told(
        self, settings: Settings
    ) -> None:
        put(settings, springs(settings, 1)._replace(headers=[]))
        put(settings, springs(settings, 2))
        desk = desk_of(settings)
        done = desk.handle((found.letter for found in desk.find(Wanted())), BY)
        assert (done.now, len(done.nowhere)) == (1, 1)
        with pytest.raises(Nowhere):
            redrive_all(settings, Change("ann", to="no-such-topic"))
        assert redrive_all(settings, Change("ann", to=settings.topics.order_created)) == 1
        assert put_back(settings) == ["1", "2"]

    def test_of_a_discarded_one_does_nothing(self, settings: Settings) -> None:
        put(settings, springs(settings, 1))
        (found,) = open_ones(settings)
        desk = desk_of(settings)
        assert desk.handle([found.letter], Change("ann", "a test", discard=True)).now == 1
        assert desk.handle([found.letter], BY).before == 1
        assert put_back(settings) == []

    def test_reads_only_what_is_there(self, settings: Settings) -> None:
        desk = desk_of(settings)
        put(settings, springs(settings, 1))
        with pytest.raises(Unknown):
            desk.get(Place(settings.topics.order_created_dead, 0, 9))
        with pytest.raises(Unknown):
            desk.get(Place(settings.topics.order_created, 0, 0))
        with pytest.raises(Unknown):
            list(desk.find(Wanted(), "no-such-topic"))

    def test_finds_those_of_another_flow_by_their_topic(self, settings: Settings) -> None:
        mine = settings.model_copy(update={"topic_order_created": f"{settings.kafka_group_id}.x"})
        create(mine)
        put(mine, springs(mine, 1))
        desk = desk_of(settings)
        assert list(desk.find(Wanted())) == []
        for name in (mine.topics.order_created, mine.topics.order_created_dead):
            assert [found.letter.order for found in desk.find(Wanted(), name)] == ["1"]


class TestTogether:
    def test_two_who_redrive_all_double_none_and_leave_none(self, settings: Settings) -> None:
        numbers = range(1500)
        put(settings, *(springs(settings, number) for number in numbers))
        ended = together([lambda: redrive_all(settings) for _ in range(3)])
        assert all(isinstance(end, int | OrderstreamError) for end in ended), ended
        redrive_all(settings)  # Whoever was sent away by another does it again.
        assert put_back(settings) == sorted(str(number) for number in numbers)


class TestACrash:
    """The desk ends between any two calls to Kafka, and whoever comes next finishes its work."""

    @pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
    @pytest.mark.parametrize("call", CALLS)
    def test_by_kill_doubles_and_loses_nothing(
        self, settings: Settings, call: str, after: bool, tmp_path: Path
    ) -> None:
        put(settings, *(springs(settings, number) for number in range(20)))
        assert killed_at(settings, call, after, tmp_path) == -signal.SIGKILL
        redrive_all(settings)
        assert put_back(settings) == sorted(str(number) for number in range(20))
        assert open_ones(settings) == []

    @pytest.mark.parametrize("happened", [False, True])
    def test_of_the_answer_to_a_commit_is_found_out(
        self, settings: Settings, happened: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        put(settings, springs(settings, 1))
        commit = KafkaSink.commit
        lost: list[bool] = []

        def losing(sink: KafkaSink) -> None:
            if lost:
                commit(sink)
                return
            lost.append(True)
            if happened:
                commit(sink)
            sink._producer = None  # pyright: ignore[reportPrivateUsage] - as _call does
            raise OutcomeUnknown("no answer")

        monkeypatch.setattr(KafkaSink, "commit", losing)
        redrive_all(settings)
        assert put_back(settings) == ["1"]

    def test_of_a_transaction_is_taken_again(
        self, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        put(settings, springs(settings, 1))
        commit = KafkaSink.commit
        aborted: list[bool] = []

        def aborting(sink: KafkaSink) -> None:
            if not aborted:
                aborted.append(True)
                sink.abort()
                raise TransactionAborted("rolled back")
            commit(sink)

        monkeypatch.setattr(KafkaSink, "commit", aborting)
        assert redrive_all(settings) == 1
        assert put_back(settings) == ["1"]


def killed_at(settings: Settings, call: str, after: bool, folder: Path) -> int:
    """Redrive everything in a process that kills itself at a call; return how it ended."""
    script = folder / "redrive.py"
    script.write_text(
        textwrap.dedent(
            f"""
            import os, signal
            from orderstream.wiring.dead_letters import dead_letters
            from orderstream.dead_letters.desk import Change
            from orderstream.dead_letters.rules import Wanted
            from orderstream.runtime.broker_kafka import KafkaSink
            from orderstream.runtime.settings import Settings

            call = getattr(KafkaSink, {call!r})

            def killed(*arguments):
                if {after}:
                    call(*arguments)
                    if {call == "produce"}:
                        arguments[0]._producer.flush(5)
                os.kill(os.getpid(), signal.SIGKILL)

            setattr(KafkaSink, {call!r}, killed)
            desk = dead_letters(Settings.load(os.environ))
            desk.handle((f.letter for f in desk.find(Wanted())), Change("killed"))
            """
        )
    )
    given = {
        str(field.validation_alias): str(getattr(settings, name))
        for name, field in Settings.model_fields.items()
        if name.startswith(("topic_", "kafka_bootstrap", "kafka_group"))
    }
    return subprocess.run([sys.executable, script], env={**os.environ, **given}).returncode


class TestWithInventory:
    def test_it_gets_all_its_tries_again_and_the_new_failure_is_added_to_the_history(
        self, settings: Settings, workers: Workers
    ) -> None:
        stock(settings, FAIL=5, MUG=5)
        put(settings, springs(settings, 1, offset=77))
        redrive_all(settings)
        workers.start(settings)
        (second,) = until(lambda: open_ones(settings), what="it failed again")
        assert [known.offset for known in second.letter.passes] == [77, 0]
        assert len(read(settings, settings.topics.order_created_retry)) == 2
        value = edited(second.letter.value, [("items[0].sku", "MUG")])
        desk_of(settings).handle([second.letter], Change("ann", value=value))
        assert until(lambda: decided(settings), what="it is decided") == ["1"]


class TestTheLedger:
    def test_lists_the_newest_first_page_by_page(self, settings: Settings) -> None:
        put(settings, *(springs(settings, number) for number in range(7)))
        ledger = desk_of(settings).ledger
        pages: list[list[str]] = []
        before: Spot | None = None
        while found := ledger.newest(Wanted(), None, 3, handled=False, before=before):
            pages.append([one.letter.order or "" for one in found])
            before = found[-1].spot
        assert [len(page) for page in pages] == [3, 3, 1]
        spots = [one.spot for one in ledger.newest(Wanted(), None, 9, handled=False, before=None)]
        assert spots == sorted(spots, reverse=True)
        assert sorted(order for page in pages for order in page) == list("0123456")

    def test_reads_on_from_where_it_stood(
        self, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        read: list[int] = []
        take = Ledger._take  # pyright: ignore[reportPrivateUsage] - what it reads is its promise

        def counted(ledger: Ledger, record: Record) -> None:
            read.append(1)
            take(ledger, record)

        monkeypatch.setattr(Ledger, "_take", counted)
        desk = desk_of(settings)
        put(settings, springs(settings, 1), springs(settings, 2))
        assert [one.number for one in desk.ledger.causes(Wanted(), None, handled=False)] == [2]
        assert len(read) == 2
        desk.ledger.causes(Wanted(), None, handled=False)
        assert len(read) == 2
        put(settings, springs(settings, 3))
        assert [one.number for one in desk.ledger.causes(Wanted(), None, handled=False)] == [3]
        assert len(read) == 3

    def test_knows_at_once_what_another_did(self, settings: Settings) -> None:
        put(settings, *(springs(settings, number) for number in range(3)))
        mine, other = desk_of(settings), desk_of(settings)
        assert len(mine.ledger.oldest(Wanted(), None, 9)) == 3
        other.handle(other.read(other.ledger.oldest(Wanted(order="1"), None, 9)), BY)
        (one,) = mine.ledger.newest(Wanted(order="1"), None, 9, handled=True, before=None)
        assert one.handled is not None
        assert one.handled.by == BY.by
        assert mine.ledger.newest(Wanted(order="1"), None, 9, handled=False, before=None) == []
        assert len(mine.ledger.oldest(Wanted(), None, 9)) == 2

    def test_tells_causes_apart_and_finds_by_them(self, settings: Settings) -> None:
        slow = ("kafka_dlt-exception-message", b"order 5 took 30017 ms")
        letters = [springs(settings, number) for number in (3, 4)]
        letters += [letter._replace(headers=[*letter.headers, slow]) for letter in letters[:1]]
        put(settings, *letters)
        ledger = desk_of(settings).ledger
        found = {one.cause: one.number for one in ledger.causes(Wanted(), None, handled=False)}
        late = "IllegalStateException: order 5 took ... ms"
        assert found == {"IllegalStateException: boom": 2, late: 1}
        assert len(ledger.oldest(Wanted(cause=late), None, 9)) == 1
        assert desk_of(settings).read(ledger.oldest(Wanted(), None, 9))[0].value is not None

    def test_lets_go_of_what_kafka_deleted(self, settings: Settings) -> None:
        put(settings, *(springs(settings, number) for number in range(4)))
        desk = desk_of(settings)
        places = desk.ledger.oldest(Wanted(), None, 9)
        partition = places[0].partition
        gone = [place for place in places if place.partition == partition][:1]
        end = TopicPartition(gone[0].topic, partition, gone[0].offset + 1)
        client = AdminClient({"bootstrap.servers": str(settings.kafka_bootstrap_servers)})
        client.delete_records([end])[end].result()
        assert desk.ledger.oldest(Wanted(), None, 9) == [p for p in places if p not in gone]
