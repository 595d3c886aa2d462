"""What is recovered where orders stand in a format of others."""

import json
from contextlib import closing

import psycopg

from orderstream.orders.rules import Request
from orderstream.orders.store import Claim
from orderstream.recovery.facts import Facts
from orderstream.recovery.lost_topics import adopt
from orderstream.runtime.log_reader import LogReader
from orderstream.runtime.settings import Settings
from orderstream.runtime.stage import Output
from tests.builders import an_order, key_of, lines
from tests.conftest import SettingsOf
from tests.kafka.test_replay import forgotten, rows, running
from tests.kafka.topics import create, put, read
from tests.waiting import until

ORDER = an_order(("MUG", 2), order_id="theirs")
CLAIM = Claim.of_order("theirs", Request("theirs", 42, lines(("MUG", 2))).fingerprint())


def with_an_order(settings_of: SettingsOf) -> Settings:
    """A flow with `{order_id,user_id,item,quantity}` for orders, and one of them on the log."""
    settings = create(settings_of(ORDERSTREAM_ORDER_FORMAT="order-item"))
    value = settings.topics.write_order(ORDER)
    assert json.loads(value)["item"] == "MUG"
    put(settings, Output(settings.topics.order_created, key_of(ORDER), value, [CLAIM.header]))
    return settings


def test_facts_are_read_from_it(settings_of: SettingsOf) -> None:
    settings = with_an_order(settings_of)
    with (
        psycopg.connect(settings.dsn()) as connection,
        closing(LogReader(settings.kafka(), settings.group("facts"))) as log,
    ):
        facts = Facts(connection, settings.topics, {}, {})
        facts.read(log, {})
        claims = connection.execute("SELECT name, order_id FROM log_claim").fetchall()
    assert (facts.orders, claims) == (1, [("order:theirs", "theirs")])


def test_an_order_is_said_again_in_it(settings_of: SettingsOf) -> None:
    settings = with_an_order(settings_of)
    topic = settings.topics.order_created
    with running(settings, "view"):
        until(lambda: rows(settings, "SELECT order_id FROM order_view.orders") == [("theirs",)])
    until(lambda: forgotten(settings, "view"), what="the group is empty")
    assert adopt(settings, [topic], {}).orders == 1
    first, again = (json.loads(record.value() or b"") for record in read(settings, topic))
    assert first == again
