from datetime import timedelta

import pytest

from orderstream.notification.rules import Notice
from orderstream.notification.store_postgres import PostgresNotices
from orderstream.runtime.database import Database
from tests.builders import NOON
from tests.stores.conftest import Emptied
from tests.waiting import together


@pytest.fixture
def database(emptied: Emptied) -> Database:
    return emptied("notification")


def notice(number: int, user_id: int | str | None = 42, text: str = "It is on its way.") -> Notice:
    return Notice(f"{number}:inventory.reserved", str(number), user_id, text)


def add(
    database: Database, *notices: Notice, channel: str = "log", minutes: int = 0
) -> list[Notice]:
    with database.transaction() as tx:
        now = NOON + timedelta(minutes=minutes)
        return PostgresNotices(database).add(tx, channel, notices, now)


class TestAdd:
    def test_returns_what_is_new_in_the_order_given(self, database: Database) -> None:
        add(database, notice(2))
        assert add(database, notice(3), notice(2), notice(1)) == [notice(3), notice(1)]

    def test_an_event_twice_in_a_batch_is_told_once(self, database: Database) -> None:
        assert add(database, notice(1), notice(1)) == [notice(1)]

    def test_each_channel_is_told(self, database: Database) -> None:
        assert add(database, notice(1)) == [notice(1)]
        assert add(database, notice(1), channel="mail") == [notice(1)]
        assert add(database, notice(1), channel="mail") == []

    def test_rolled_back_it_is_new_again(self, database: Database) -> None:
        def add_and_fail() -> None:
            with database.transaction() as tx:
                PostgresNotices(database).add(tx, "log", [notice(1)], NOON)
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            add_and_fail()
        assert add(database, notice(1)) == [notice(1)]

    def test_of_rivals_with_the_same_event_exactly_one_tells(self, database: Database) -> None:
        answers = together([lambda: add(database, notice(1))] * 8)
        assert sorted(map(str, answers)) == sorted(map(str, [[notice(1)]] + [[]] * 7))

    def test_nothing_to_add(self, database: Database) -> None:
        assert add(database) == []


class TestFind:
    def test_newest_first_as_the_api_shows_them(self, database: Database) -> None:
        add(database, notice(1, user_id=None))
        add(database, notice(2, "u{1}", 'say "hi", \\ {🦊}\n%s'), minutes=1)
        found = PostgresNotices(database).find(None, None, 10)
        assert [row["orderId"] for row in found] == ["2", "1"]
        assert found[0] == {
            "id": "2:inventory.reserved:log",
            "eventId": "2:inventory.reserved",
            "channel": "log",
            "orderId": "2",
            "userId": "u{1}",
            "status": "SENT",
            "text": 'say "hi", \\ {🦊}\n%s',
            "createdAt": "2026-11-21T12:01:00.000Z",
        }
        assert found[1]["userId"] is None

    def test_by_order_status_and_limit(self, database: Database) -> None:
        add(database, notice(1), notice(2))
        notices = PostgresNotices(database)
        assert [row["orderId"] for row in notices.find("2", None, 10)] == ["2"]
        assert len(notices.find(None, "SENT", 10)) == 2
        assert notices.find(None, "FAILED", 10) == []
        assert len(notices.find(None, None, 1)) == 1

    def test_those_of_one_moment_have_one_order_however_they_came(self, database: Database) -> None:
        add(database, notice(2), notice(3))
        add(database, notice(2), channel="mail")
        add(database, notice(4), notice(1))
        found = PostgresNotices(database).find(None, None, 10)
        named = [(row["orderId"], row["channel"]) for row in found]
        assert named == [("4", "log"), ("3", "log"), ("2", "log"), ("2", "mail"), ("1", "log")]
