from datetime import timedelta

import pytest

from orderstream.notification.rules import Notice, State, Verdict, message
from orderstream.notification.store_postgres import PostgresNotices
from orderstream.runtime.database import Database
from tests.builders import NOON, an_order, reserved
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
        found = PostgresNotices(database).find(None, None, None, 10)
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
        assert [row["orderId"] for row in notices.find("2", None, None, 10)] == ["2"]
        assert len(notices.find(None, State.SENT, None, 10)) == 2
        assert notices.find(None, State.FAILED, None, 10) == []
        assert len(notices.find(None, None, None, 1)) == 1

    def test_those_of_one_moment_have_one_order_however_they_came(self, database: Database) -> None:
        add(database, notice(2), notice(3))
        add(database, notice(2), channel="mail")
        add(database, notice(4), notice(1))
        found = PostgresNotices(database).find(None, None, None, 10)
        named = [(row["orderId"], row["channel"]) for row in found]
        assert named == [("4", "log"), ("3", "log"), ("2", "log"), ("2", "mail"), ("1", "log")]


CHANNELS = ["mail", "hook"]


def told(number: int, user_id: int | str | None = 42) -> Notice:
    """Return a notice of an event, as the stage makes it."""
    event = reserved(an_order(order_id=number, user_id=user_id))
    return Notice(f"{number}:inventory.reserved", str(number), user_id, "Confirmed.", event)


def intend(database: Database, *notices: Notice, channels: list[str] = CHANNELS) -> None:
    with database.transaction() as tx:
        PostgresNotices(database).intend(tx, channels, notices, NOON)


def stands(database: Database, channel: str) -> dict[str, str]:
    found = PostgresNotices(database).find(None, None, channel, 500)
    return {row["orderId"]: row["status"] for row in found}


class TestIntend:
    def test_keeps_one_row_for_each_event_and_channel(self, database: Database) -> None:
        intend(database, told(1), told(1), told(2))
        intend(database, told(1))
        for channel in CHANNELS:
            assert stands(database, channel) == {"1": "PENDING", "2": "PENDING"}

    def test_a_channel_added_later_tells_nothing_of_what_was_known(
        self, database: Database
    ) -> None:
        add(database, told(1))
        intend(database, told(2), channels=["mail"])
        intend(database, told(1), told(2), told(3))  # As a replay would.
        assert stands(database, "hook") == {"3": "PENDING"}
        assert stands(database, "mail") == {"2": "PENDING", "3": "PENDING"}

    def test_the_log_beside_it_is_told_too(self, database: Database) -> None:
        intend(database, told(1))
        assert add(database, told(1)) == [told(1)]

    def test_rolled_back_there_is_nothing_to_send(self, database: Database) -> None:
        def intend_and_fail() -> None:
            with database.transaction() as tx:
                PostgresNotices(database).intend(tx, CHANNELS, [told(1)], NOON)
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            intend_and_fail()
        assert PostgresNotices(database).claim("mail", 10, 60) == []


class TestSending:
    @pytest.fixture
    def notices(self, database: Database) -> PostgresNotices:
        intend(database, *(told(number) for number in range(1, 6)))
        return PostgresNotices(database)

    def test_gives_each_message_to_one_of_many(self, notices: PostgresNotices) -> None:
        answers = together([lambda: notices.claim("mail", 1, 60)] * 5)
        taken = [
            intent.event_id for answer in answers if isinstance(answer, list) for intent in answer
        ]
        assert len(taken) == len(set(taken))
        rest = notices.claim("mail", 10, 60)
        assert sorted(taken + [i.event_id for i in rest]) == [told(n).event_id for n in range(1, 6)]
        assert notices.claim("mail", 10, 60) == []
        assert len(notices.claim("hook", 10, 60)) == 5

    def test_says_what_is_to_be_said(self, notices: PostgresNotices) -> None:
        first = notices.claim("mail", 1, 60)[0]
        event = told(1).event
        assert event is not None
        assert (first.message, first.tries, first.doubtful) == (message(event), 1, 0)
        assert (first.user_id, first.created_at) == ("42", NOON)

    def test_what_somebody_died_with_goes_to_another_and_is_doubtful(
        self, notices: PostgresNotices, database: Database
    ) -> None:
        (dead,) = notices.claim("mail", 1, 0)
        again = {i.event_id: i for i in notices.claim("mail", 10, 60)}[dead.event_id]
        assert (again.tries, again.doubtful) == (2, 1)
        notices.settle([(dead, Verdict(State.FAILED, "late"))])  # Not theirs any more.
        assert stands(database, "mail")["1"] == "SENDING"
        notices.settle([(dead, Verdict(State.SENT))])  # But sent is sent.
        notices.settle([(again, Verdict(State.PENDING, "no"))])
        assert stands(database, "mail")["1"] == "SENT"

    def test_one_that_failed_is_due_later_and_says_why(self, notices: PostgresNotices) -> None:
        first, second, *rest = notices.claim("mail", 10, 60)
        notices.settle(
            [
                (first, Verdict(State.PENDING, 'it said "no", \\', 3600.0)),
                (second, Verdict(State.PENDING, "unknown", 0.0, unknown=True)),
                *((intent, Verdict(State.SENT)) for intent in rest),
            ]
        )
        (again,) = notices.claim("mail", 10, 60)
        assert (again.event_id, again.tries, again.doubtful) == (second.event_id, 2, 1)
        (shown,) = notices.find("1", None, "mail", 10)
        assert (shown["status"], shown["tries"]) == ("PENDING", 1)
        assert shown["why"] == 'it said "no", \\'

    def test_a_person_has_tried_again_what_was_given_up(self, notices: PostgresNotices) -> None:
        taken = notices.claim("mail", 10, 60)
        states = (State.FAILED, State.SKIPPED, State.SENT, State.FAILED, State.PENDING)
        notices.settle([(i, Verdict(s, "no", 3600)) for i, s in zip(taken, states, strict=True)])
        ids = [intent.event_id for intent in taken]
        assert [notices.retry(name, "mail") for name in ids[:3]] == list(states[:3])
        assert notices.retry("9:inventory.reserved", "mail") is None
        assert {i.event_id: i.tries for i in notices.claim("mail", 9, 60)} == {ids[0]: 1, ids[1]: 1}
        assert notices.retry_all("hook", 10) == 0
        assert notices.retry_all(None, 10) == 1
        assert [i.event_id for i in notices.claim("mail", 9, 60)] == [ids[3]]

    def test_what_waits_for_a_channel_that_is_gone_is_given_up(
        self, notices: PostgresNotices, database: Database
    ) -> None:
        notices.claim("hook", 2, 60)
        assert notices.abandon(["mail"]) == 3  # What somebody has in hand is still theirs.
        assert set(stands(database, "mail").values()) == {"PENDING"}
        assert sorted(stands(database, "hook").values()) == ["FAILED"] * 3 + ["SENDING"] * 2

    def test_who_lives_keeps_what_he_has_in_hand(self, notices: PostgresNotices) -> None:
        notices.claim("mail", 2, 0, worker=1)
        notices.renew("mail", 60, worker=1)
        assert len(notices.claim("mail", 9, 60, worker=2)) == 3
        assert notices.resume("mail", worker=1) == 2
        notices.renew("mail", 60, worker=1)  # Of what nobody has in hand, nothing is kept.
        assert [i.doubtful for i in notices.claim("mail", 9, 60)] == [1, 1]

    def test_says_who_opted_out(self, notices: PostgresNotices) -> None:
        notices.opt_out("42", NOON)
        assert {intent.opted_out for intent in notices.claim("mail", 9, 60)} == {True}

    def test_is_found_by_state(self, notices: PostgresNotices) -> None:
        taken = notices.claim("mail", 2, 60)
        notices.settle([(taken[0], Verdict(State.FAILED, "no"))])
        assert len(notices.find(None, State.PENDING, "mail", 10)) == 3
        assert len(notices.find(None, State.SENDING, None, 10)) == 1
        assert len(notices.find(None, State.FAILED, None, 10)) == 1
        counts = {(r["channel"], r["status"]): r["count"] for r in notices.open()}
        assert counts[("mail", "PENDING")] == 3
        assert counts[("hook", "PENDING")] == 5


class TestChannelsAndCustomers:
    def test_a_silenced_channel_says_why_until_it_is_used_again(self, database: Database) -> None:
        notices = PostgresNotices(database)
        notices.silence("hook", "410")
        notices.silence("hook", "410 again")
        assert notices.silenced() == {"hook": "410 again"}
        assert notices.unsilence("hook")
        assert not notices.unsilence("hook")
        assert notices.silenced() == {}

    def test_who_opted_out_is_known_until_they_opt_in(self, database: Database) -> None:
        notices = PostgresNotices(database)
        notices.opt_out("u/1", NOON)
        notices.opt_out("u/1", NOON)
        assert notices.opted_out(["u/1", "42"]) == {"u/1"}
        assert notices.opt_in("u/1")
        assert not notices.opt_in("u/1")
