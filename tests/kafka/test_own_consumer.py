"""Consumers of a user's own on real servers: once, beside our services and not in their way."""

from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from threading import Event as Flag
from threading import Thread
from typing import Any

import psycopg
import pytest
from psycopg import Connection

from orderstream import Events, consumer
from orderstream.audit.verify import verify
from orderstream.contract.errors import ConfigurationError, Fenced, Unavailable
from orderstream.contract.topics import retry_topic_of
from orderstream.dead_letters.desk import Change
from orderstream.dead_letters.rules import Wanted
from orderstream.extension.definition import Definition, definition_of
from orderstream.readers import lags, own_consumers
from orderstream.runtime.admin import Admin
from orderstream.runtime.broker_kafka import KafkaSink
from orderstream.runtime.database import Database
from orderstream.runtime.log_reader import LogReader
from orderstream.runtime.loop import Loop
from orderstream.runtime.observe import StageMetrics
from orderstream.runtime.replay import Target
from orderstream.runtime.settings import Settings
from orderstream.runtime.stage import Output
from orderstream.wiring.consumers import consumer_loop, prepare_consumer
from orderstream.wiring.dead_letters import dead_letters
from orderstream.wiring.replays import replay_of
from tests.builders import an_order
from tests.conftest import SettingsOf
from tests.kafka.test_replay import come_to_rest, running
from tests.kafka.topics import create, keys, put, read
from tests.kafka.workers import stock
from tests.waiting import until

TABLES = "CREATE TABLE IF NOT EXISTS handled (key text NOT NULL, topic text NOT NULL)"
broken = Flag()  # Set: the consumer fails on every order of the SKU BROKEN.


@pytest.fixture(autouse=True)
def whole() -> Iterator[None]:
    yield
    broken.clear()


def note(batch: Events, tx: Connection) -> Iterator[tuple[Any, ...]]:
    """Write down each order as often as it comes, and say so."""
    for event in batch:
        if broken.is_set() and event.data.items[0].sku == "BROKEN":
            raise RuntimeError("broken")
        tx.execute("INSERT INTO handled VALUES (%s, %s)", (event.key, event.topic))
        yield "noted", event.key, event.data.items[0].sku


def noting(settings: Settings, **more: Any) -> Definition:
    """Return a consumer whose output topic is the test's own."""
    name = f"{settings.kafka_group_id}.noted"
    topics = more.pop("topics", ["order.created"])
    noted = note

    def here(batch: Events, tx: Connection) -> Iterator[tuple[Any, ...]]:
        for _, key, value in noted(batch, tx):
            yield name, key, value

    decorate = consumer("noting", topics=topics, publishes=[name], tables=TABLES, **more)
    return definition_of(decorate(here), "noting")


class Running:
    """A consumer in a thread, as its process runs it."""

    def __init__(self, definition: Definition, settings: Settings, number: int = 0) -> None:
        settings = settings.model_copy(update={"worker": number})
        prepare_consumer(definition, settings)
        self._database = Database(settings.dsn(), definition.schema)
        metrics = StageMetrics(f"{definition.name}-{number}")
        self.loop: Loop = consumer_loop(definition, settings, self._database, metrics)
        self.ended_with: BaseException | None = None
        self._thread = Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.loop.run()
        except BaseException as error:  # noqa: BLE001 - told to the test
            self.ended_with = error

    def stop(self) -> None:
        self.loop.stop()
        self._thread.join(30)
        assert not self._thread.is_alive()
        self.loop.close()
        self._database.close()


@contextmanager
def consuming(definition: Definition, settings: Settings, workers: int = 1) -> Generator[Running]:
    with ExitStack() as stack:
        every = [Running(definition, settings, number) for number in range(workers)]
        for one in every:
            stack.callback(one.stop)
        yield every[0]


def rows(settings: Settings) -> Counter[str]:
    with psycopg.connect(settings.dsn()) as connection:
        query = "SELECT key, count(*) FROM consumer_noting.handled GROUP BY key"
        return Counter(dict(connection.execute(query).fetchall()))


def said(settings: Settings) -> Counter[str]:
    return Counter(keys(read(settings, f"{settings.kafka_group_id}.noted")))


def behind(settings: Settings) -> int:
    found = list(own_consumers(settings).values())
    with closing(LogReader(settings.kafka(), settings.group("lag"))) as log:
        every = dict(lags(settings, Admin(settings.kafka()), log, own=found))
    return sum(lag.behind for lag in every["noting"])


def orders(*numbers: int, sku: str = "MUG") -> list[Any]:
    return [an_order((sku, 1), order_id=number) for number in numbers]


def once(*numbers: int) -> Counter[str]:
    return Counter(str(number) for number in numbers)


@pytest.fixture
def settings(settings_of: SettingsOf) -> Settings:
    return create(settings_of())


class TestExactlyOnce:
    def test_by_two_workers_one_of_which_goes_and_comes(self, settings: Settings) -> None:
        definition = noting(settings, batch=20)
        numbers = range(600)
        put(settings, *orders(*numbers))
        with consuming(definition, settings):
            for _ in range(3):
                other = Running(definition, settings, 1)
                until(lambda: len(Admin(settings.kafka()).members(settings.group("noting"))) == 2)
                other.stop()
            until(lambda: behind(settings) == 0, what="all is read")
        assert rows(settings) == said(settings) == once(*numbers)

    def test_after_a_crash_between_the_two_commits(
        self, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Rows and what is to be said are there, and another worker says it."""
        definition = noting(settings)
        put(settings, *orders(*range(50)))
        commit = KafkaSink.commit

        def gone(_sink: KafkaSink) -> None:
            if rows(settings) != once(*range(50)):  # A first batch need not have every record.
                raise Unavailable("a test")
            raise Fenced("a test")

        monkeypatch.setattr(KafkaSink, "commit", gone)
        crashed = Running(definition, settings)
        until(lambda: crashed.ended_with)
        crashed.stop()
        assert rows(settings) == once(*range(50))
        assert said(settings) == Counter()
        monkeypatch.setattr(KafkaSink, "commit", commit)
        with consuming(definition, settings, workers=2):
            until(lambda: said(settings) == once(*range(50)))
        assert rows(settings) == once(*range(50))

    def test_when_kafka_has_forgotten_the_group(self, settings: Settings) -> None:
        definition = noting(settings, start="end")
        with consuming(definition, settings):
            joined = lambda: Admin(settings.kafka()).committed(settings.group("noting"))  # noqa: E731
            until(joined, what="it has committed where it begins")
            put(settings, *orders(1, 2, 3))
            until(lambda: said(settings) == once(1, 2, 3))
        put(settings, *orders(4))
        group = settings.group("noting")
        admin: Any = Admin(settings.kafka())
        until(lambda: not admin.members(group))
        admin._client.delete_consumer_groups([group])[group].result()
        with consuming(definition, settings):
            until(lambda: said(settings) == once(1, 2, 3, 4))
        assert rows(settings) == once(1, 2, 3, 4)


class TestWhereItStarts:
    def test_at_the_beginning_it_reads_all_there_is(self, settings: Settings) -> None:
        put(settings, *orders(1, 2))
        with consuming(noting(settings), settings):
            until(lambda: said(settings) == once(1, 2))

    def test_at_the_end_it_reads_what_comes(self, settings: Settings) -> None:
        put(settings, *orders(1, 2))
        group = settings.group("noting")
        with consuming(noting(settings, start="end"), settings):
            until(lambda: Admin(settings.kafka()).committed(group))
            put(settings, *orders(3))
            until(lambda: said(settings) == once(3))
        assert rows(settings) == once(3)


class TestAFailure:
    """The broken orders are fine for inventory: only the user's own consumer fails on them."""

    @pytest.fixture
    def parked(self, settings: Settings) -> Settings:
        """A flow at rest in which the consumer, and nobody else, gave up on orders 2 and 4."""
        stock(settings, MUG=100, BROKEN=100)
        put(settings, *orders(1, 3), *orders(2, 4, sku="BROKEN"))
        broken.set()
        with consuming(noting(settings, rebuild=True), settings):
            until(lambda: len(read(settings, settings.topics.order_created_dead)) == 2)
            until(lambda: said(settings) == once(1, 3))
            come_to_rest(settings, "inventory", "view", "notification", "analytics")
        return settings

    def test_is_tried_again_by_nobody_else_and_fails_no_order(self, parked: Settings) -> None:
        settings = parked
        retry = retry_topic_of(settings.topics.order_created, settings.group("noting"))
        assert keys(read(settings, retry)) == ["2", "2", "4", "4"]
        assert read(settings, settings.topics.order_created_retry) == []
        with psycopg.connect(settings.dsn()) as connection:
            pages = connection.execute("SELECT DISTINCT status FROM order_view.orders").fetchall()
        assert pages == [(20,)]
        assert verify(settings, wait_s=20, progress=None).proven
        desk = dead_letters(settings)
        found = list(desk.find(Wanted(group=settings.group("noting"))))
        assert sorted(one.letter.order or "" for one in found) == ["2", "4"]

    def test_is_redriven_to_the_consumer_that_gave_up_alone(self, parked: Settings) -> None:
        settings = parked
        broken.clear()
        desk = dead_letters(settings)
        letters = [found.letter for found in desk.find(Wanted())]
        assert desk.handle(letters, Change("ann")).now == 2
        assert len(read(settings, settings.topics.order_created)) == 4
        with consuming(noting(settings), settings):
            until(lambda: said(settings) == once(1, 2, 3, 4))
        assert rows(settings) == once(1, 2, 3, 4)
        with running(settings, "inventory", "view"):
            assert verify(settings, wait_s=20, progress=None).proven

    def test_of_two_consumers_on_one_record_is_no_violation(self, parked: Settings) -> None:
        settings = parked
        other = replace(noting(settings), name="other", handle=note)
        with consuming(other, settings):
            until(lambda: len(read(settings, settings.topics.order_created_dead)) == 4 + 2)
        with running(settings, "view", "notification", "analytics"):
            assert verify(settings, wait_s=20, progress=None).proven

    def test_is_passed_over_by_a_replay_and_what_was_redriven_is_not(
        self, parked: Settings
    ) -> None:
        settings = parked
        broken.clear()
        desk = dead_letters(settings)
        letters = [found.letter for found in desk.find(Wanted(order="2"))]
        assert desk.handle(letters, Change("ann")).now == 1
        definition = noting(settings, rebuild=True)
        with consuming(definition, settings):
            until(lambda: said(settings) == once(1, 2, 3))
        replayed(settings, Target())
        assert rows(settings) == Counter()
        with consuming(definition, settings):
            until(lambda: behind(settings) == 0)
        assert rows(settings) == said(settings) == once(1, 2, 3)


def replayed(settings: Settings, target: Target) -> None:
    group = settings.group("noting")
    until(lambda: not Admin(settings.kafka()).members(group), what="the group is empty")
    job = replay_of("noting", settings)
    job.run(job.plan(target))


class TestAReplay:
    def test_builds_the_rows_anew_and_says_nothing_again(self, settings: Settings) -> None:
        definition = noting(settings, rebuild=True)
        put(settings, *orders(*range(30)))
        with consuming(definition, settings):
            until(lambda: said(settings) == once(*range(30)))
        replayed(settings, Target())
        replayed(settings, Target())
        assert rows(settings) == Counter()
        put(settings, *orders(30))
        with consuming(definition, settings):
            until(lambda: said(settings)["30"] == 1)
            until(lambda: behind(settings) == 0)
        assert rows(settings) == said(settings) == once(*range(31))

    def test_without_rebuild_handles_all_of_it_again(self, settings: Settings) -> None:
        definition = noting(settings)
        put(settings, *orders(1, 2))
        with consuming(definition, settings):
            until(lambda: said(settings) == once(1, 2))
        replayed(settings, Target())
        with consuming(definition, settings):
            until(lambda: rows(settings) == once(1, 1, 2, 2))
        assert said(settings) == once(1, 2)

    @pytest.mark.parametrize("calls", [0, 1], ids=["before Kafka's offsets", "behind them"])
    def test_that_crashes_changes_nothing_and_is_done_by_the_next(
        self, settings: Settings, monkeypatch: pytest.MonkeyPatch, calls: int
    ) -> None:
        definition = noting(settings, rebuild=True)
        put(settings, *orders(*range(30)))
        with consuming(definition, settings):
            until(lambda: said(settings) == once(*range(30)))
        alter: Callable[..., None] = Admin.set_committed

        def crashing(*arguments: Any) -> None:
            if calls:
                alter(*arguments)
            raise Unavailable("a test")

        monkeypatch.setattr(Admin, "set_committed", crashing)
        with pytest.raises(Unavailable, match="a test"):
            replayed(settings, Target())
        monkeypatch.setattr(Admin, "set_committed", alter)
        put(settings, *orders(30))
        with consuming(definition, settings):
            until(lambda: said(settings)["30"] == 1)
            until(lambda: behind(settings) == 0)
        assert rows(settings) == said(settings) == once(*range(31))
        replayed(settings, Target())
        with consuming(definition, settings):
            until(lambda: rows(settings) == once(*range(31)))
        assert said(settings) == once(*range(31))

    def test_waits_for_records_that_are_to_be_tried_again(self, settings: Settings) -> None:
        definition = noting(settings)
        put(settings, *orders(1))
        with consuming(definition, settings):
            until(lambda: said(settings) == once(1))
        retry = retry_topic_of(settings.topics.order_created, settings.group("noting"))
        put(settings, Output(retry, b"9", b"{}", []))
        with pytest.raises(Unavailable, match="another try"):
            replayed(settings, Target())


class TestItsTables:
    def test_that_cannot_be_made_are_named(self, settings: Settings) -> None:
        wrong = replace(noting(settings), tables="CREATE TABEL x ()")
        with pytest.raises(ConfigurationError, match=r"noting: its tables: .*TABEL"):
            prepare_consumer(wrong, settings)

    def test_may_be_a_folder_of_migrations(self, settings: Settings, tmp_path: Any) -> None:
        (tmp_path / "0001.handled.sql").write_text(TABLES)
        definition = replace(noting(settings), tables=tmp_path)
        put(settings, *orders(1))
        for _ in range(2):
            with consuming(definition, settings):
                until(lambda: rows(settings) == once(1))
            (tmp_path / "0002.more.sql").write_text("ALTER TABLE handled ADD more text")
        gone = replace(definition, tables=tmp_path / "gone")
        with pytest.raises(ConfigurationError, match="no folder"):
            prepare_consumer(gone, settings)
