"""The dispatcher between a real store and channels that take, refuse, hang and die."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from typing import Any

import pytest
import structlog.testing

from orderstream.contract.errors import Unavailable
from orderstream.notification.dispatch import Dispatcher
from orderstream.notification.rules import Notice, NotSent, Result, Sent, State
from orderstream.notification.store import Intent
from orderstream.notification.store_postgres import PostgresNotices
from orderstream.runtime.database import Database
from tests.builders import NOON, an_order, reserved
from tests.waiting import until

SOON = (0.05, 0.1, 0.1)


class Scripted:
    """A channel that does as it is told, and writes down what it was given."""

    def __init__(
        self,
        name: str,
        do: Callable[[Intent], Result] = lambda _: Sent(),
        *,
        personal: bool = False,
        every_s: float = 0.0,
    ) -> None:
        self.name = name
        self.personal = personal
        self.every_s = every_s
        self.got: list[Intent] = []
        self.at_once = 0
        self.at_once_max = 0
        self._do = do
        self._lock = threading.Lock()

    def send(self, intent: Intent) -> Result:
        with self._lock:
            self.got.append(intent)
            self.at_once += 1
            self.at_once_max = max(self.at_once, self.at_once_max)
        try:
            return self._do(intent)
        finally:
            with self._lock:
                self.at_once -= 1

    def let_go(self) -> None:
        """Nothing is held."""


@pytest.fixture
def database(dsn: str) -> Iterator[Database]:
    with closing(Database(dsn, "notification", pool_max=8)) as database:
        yield database


@pytest.fixture
def notices(database: Database) -> PostgresNotices:
    return PostgresNotices(database)


@pytest.fixture
def run(notices: PostgresNotices) -> Iterator[Callable[..., Dispatcher]]:
    with ExitStack() as stack:

        def start(*channels: Scripted, **more: Any) -> Dispatcher:
            options: dict[str, Any] = {"at_once": 4, **more}
            dispatcher = Dispatcher(notices, channels, SOON, **options)
            dispatcher.start()
            stack.callback(dispatcher.stop)
            return dispatcher

        yield start


def intend(database: Database, count: int, *channels: str, user_id: str = "u") -> None:
    told = [
        Notice(f"{n}:x", str(n), user_id, "", reserved(an_order(order_id=n, user_id=user_id)))
        for n in range(count)
    ]
    with database.transaction() as tx:
        PostgresNotices(database).intend(tx, channels, told, NOON)


def states(notices: PostgresNotices, channel: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for row in notices.find(None, None, channel, 500):
        found[row["status"]] = found.get(row["status"], 0) + 1
    return found


class TestMessages:
    def test_are_sent_once_each_a_few_at_once(
        self, database: Database, notices: PostgresNotices, run: Callable[..., Dispatcher]
    ) -> None:
        met = threading.Barrier(4)  # Four must be under way together for the first of them to end.
        mail = Scripted("mail", lambda _: Sent() if met.wait(30) >= 0 else NotSent(why="alone"))
        intend(database, 40, "mail")
        run(mail)
        until(lambda: states(notices, "mail") == {"SENT": 40})
        assert len({intent.event_id for intent in mail.got}) == len(mail.got) == 40
        assert mail.at_once_max == 4

    def test_of_a_slow_channel_hold_up_no_other(
        self, database: Database, notices: PostgresNotices, run: Callable[..., Dispatcher]
    ) -> None:
        freed = threading.Event()
        slow = Scripted("slow", lambda _: Sent() if freed.wait(60) else NotSent(why="late"))
        quick = Scripted("quick")
        intend(database, 30, "slow", "quick")
        run(slow, quick)
        until(lambda: states(notices, "quick") == {"SENT": 30})
        assert len(slow.got) == 4
        freed.set()
        until(lambda: states(notices, "slow") == {"SENT": 30})

    def test_that_fail_are_tried_again_and_given_up_in_the_end(
        self, database: Database, notices: PostgresNotices, run: Callable[..., Dispatcher]
    ) -> None:
        mail = Scripted("mail", lambda _: NotSent(why="no"))
        intend(database, 3, "mail")
        run(mail)
        until(lambda: states(notices, "mail") == {"FAILED": 3})
        assert len(mail.got) == 3 * (len(SOON) + 1)
        assert {row["why"] for row in notices.find(None, State.FAILED, None, 9)} == {"no"}
        assert notices.retry("1:x", "mail") is State.FAILED
        until(lambda: len(mail.got) > 12)

    def test_of_unknown_outcome_are_counted_as_such(
        self, database: Database, notices: PostgresNotices, run: Callable[..., Dispatcher]
    ) -> None:
        answers = iter([NotSent(why="lost", unknown=True), Sent()])
        intend(database, 1, "mail")
        run(Scripted("mail", lambda _: next(answers)))
        until(lambda: states(notices, "mail") == {"SENT": 1})
        (row,) = notices.find(None, None, "mail", 9)
        assert (row["tries"], row["doubtful"]) == (2, 1)

    @pytest.mark.parametrize(("worker", "lease_s"), [(0, 3600.0), (1, 0.3)])
    def test_that_somebody_died_with_are_taken_by_the_next_in_their_place_or_after_a_while(
        self,
        database: Database,
        notices: PostgresNotices,
        run: Callable[..., Dispatcher],
        worker: int,
        lease_s: float,
    ) -> None:
        intend(database, 5, "mail")
        assert len(notices.claim("mail", 3, lease_s, worker)) == 3  # And never comes back.
        mail = Scripted("mail")
        run(mail, worker=0)
        until(lambda: states(notices, "mail") == {"SENT": 5})
        rows = notices.find(None, None, "mail", 9)
        assert sum(row.get("doubtful", 0) for row in rows) == 3

    def test_what_a_server_said_is_kept_with_them_and_not_logged(
        self,
        database: Database,
        notices: PostgresNotices,
        run: Callable[..., Dispatcher],
    ) -> None:
        said = "550 5.1.1 <ada@example.com>: unknown\x00\n" + "x" * 5000
        intend(database, 1, "mail")
        with structlog.testing.capture_logs() as logged:
            dispatcher = run(Scripted("mail", lambda _: NotSent(why=said, final=True, busy=True)))
            until(lambda: states(notices, "mail") == {"FAILED": 1})
        (row,) = notices.find(None, None, "mail", 9)
        assert row["why"].startswith("550 5.1.1 <ada@example.com>: unknown")
        assert len(row["why"]) == 500
        assert logged
        assert "ada@" not in str(logged)
        with pytest.raises(Unavailable) as ill:
            dispatcher.check()
        assert "ada@" not in str(ill.value)

    def test_one_that_cannot_be_written_down_does_not_hold_up_the_others(
        self,
        database: Database,
        notices: PostgresNotices,
        run: Callable[..., Dispatcher],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr("orderstream.notification.rules.shortened", lambda why: why)
        intend(database, 5, "mail")
        refused = NotSent(why="no\x00", final=True)
        run(Scripted("mail", lambda i: refused if i.event_id == "3:x" else Sent()))
        until(lambda: states(notices, "mail") == {"SENT": 4, "FAILED": 1})

    def test_that_this_version_cannot_read_is_given_up(
        self, database: Database, notices: PostgresNotices, run: Callable[..., Dispatcher]
    ) -> None:
        intend(database, 3, "mail")
        with database.transaction() as tx:
            tx.execute("""UPDATE notice SET message = '{"kind":"new"}' WHERE event_id = '1:x'""")
        run(Scripted("mail"))
        until(lambda: states(notices, "mail") == {"SENT": 2, "FAILED": 1})

    def test_a_channel_that_raises_loses_none(
        self, database: Database, notices: PostgresNotices, run: Callable[..., Dispatcher]
    ) -> None:
        answers = iter([1 / 3, 0])

        def do(_: Intent) -> Result:
            if next(answers, 0):
                raise ZeroDivisionError
            return Sent()

        intend(database, 2, "mail")
        run(Scripted("mail", do), at_once=1)
        until(lambda: states(notices, "mail") == {"SENT": 2})


class TestAChannel:
    def test_keeps_to_its_rate(self, database: Database, run: Callable[..., Dispatcher]) -> None:
        intend(database, 100, "mail")
        mail = Scripted("mail")
        run(mail, rate=5.0)
        until(lambda: len(mail.got) >= 3)
        assert len(mail.got) < 50

    def test_that_is_slow_is_used_as_often_as_its_rate_lets(
        self, database: Database, notices: PostgresNotices, run: Callable[..., Dispatcher]
    ) -> None:
        intend(database, 20, "mail")
        mail = Scripted("mail", lambda _: time.sleep(0.4) or Sent())
        run(mail, rate=50.0, at_once=4)
        until(lambda: states(notices, "mail") == {"SENT": 20})
        assert mail.at_once_max > 1

    def test_that_is_gone_is_silenced_and_says_so(
        self, database: Database, notices: PostgresNotices, run: Callable[..., Dispatcher]
    ) -> None:
        hook = Scripted("hook", lambda _: NotSent(why="410", gone=True))
        intend(database, 10, "hook")
        dispatcher = run(hook, at_once=1)
        until(lambda: states(notices, "hook") == {"FAILED": 10})
        assert len(hook.got) == 1
        assert notices.silenced() == {"hook": "410"}
        with pytest.raises(Unavailable, match="hook: it does not get on"):
            dispatcher.check()

    def test_that_is_busy_is_left_alone_for_a_while(
        self, database: Database, notices: PostgresNotices, run: Callable[..., Dispatcher]
    ) -> None:
        busy = Scripted("busy", lambda _: NotSent(why="503", busy=True, after_s=3600.0))
        quick = Scripted("quick")
        intend(database, 20, "busy", "quick")
        run(busy, quick, at_once=1)
        until(lambda: states(notices, "quick") == {"SENT": 20})
        assert len(busy.got) == 1

    def test_many_that_fail_together_are_one_failure(
        self, database: Database, run: Callable[..., Dispatcher]
    ) -> None:
        met = threading.Barrier(4)

        def away(_: Intent) -> Result:
            met.wait(30)
            return NotSent(why="away", busy=True)

        intend(database, 4, "mail")
        mail = Scripted("mail", away)
        began = time.monotonic()
        run(mail)
        until(lambda: len(mail.got) == 8)  # It was left alone for a second.
        assert time.monotonic() - began < 30  # It would be a minute.

    def test_whose_store_is_away_for_a_moment_is_silenced_all_the_same(
        self,
        database: Database,
        notices: PostgresNotices,
        run: Callable[..., Dispatcher],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        silence, tried = notices.silence, list[str]()

        def fails_once(channel: str, why: str) -> None:
            tried.append(channel)
            if len(tried) == 1:
                raise Unavailable("away")
            silence(channel, why)

        monkeypatch.setattr(notices, "silence", fails_once)
        intend(database, 1, "hook")
        run(Scripted("hook", lambda _: NotSent(why="410", gone=True)))
        until(lambda: notices.silenced() == {"hook": "410"})
        until(lambda: states(notices, "hook") == {"FAILED": 1})

    def test_of_the_customers_own_skips_who_opted_out(
        self, database: Database, notices: PostgresNotices, run: Callable[..., Dispatcher]
    ) -> None:
        notices.opt_out("u", NOON)
        mail, hook = Scripted("mail", personal=True), Scripted("hook")
        intend(database, 2, "mail", "hook")
        run(mail, hook)
        until(lambda: states(notices, "hook") == {"SENT": 2})
        until(lambda: states(notices, "mail") == {"SKIPPED": 2})
        assert mail.got == []

    def test_two_workers_share_its_messages(
        self, database: Database, notices: PostgresNotices, run: Callable[..., Dispatcher]
    ) -> None:
        one, two = Scripted("mail"), Scripted("mail")
        intend(database, 300, "mail")
        run(one, worker=0)
        run(two, worker=1)
        until(lambda: states(notices, "mail") == {"SENT": 300})
        taken = [intent.event_id for intent in one.got + two.got]
        assert len(taken) == len(set(taken)) == 300


class TestStopping:
    def test_before_the_start_and_twice_does_nothing(self, notices: PostgresNotices) -> None:
        dispatcher = Dispatcher(notices, [Scripted("mail")], SOON, at_once=1)
        dispatcher.stop()
        dispatcher.start()
        dispatcher.start()
        dispatcher.stop()
        dispatcher.stop()

    def test_writes_down_what_is_under_way(
        self, database: Database, notices: PostgresNotices
    ) -> None:
        began = threading.Event()
        may_end = threading.Event()

        def do(_: Intent) -> Result:
            began.set()
            may_end.wait(30)
            return Sent()

        intend(database, 1, "mail")
        dispatcher = Dispatcher(notices, [Scripted("mail", do)], SOON, at_once=1)
        dispatcher.start()
        assert began.wait(30)
        threading.Timer(0.3, may_end.set).start()
        dispatcher.stop()
        assert states(notices, "mail") == {"SENT": 1}
