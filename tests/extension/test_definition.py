"""What may be a consumer, how it is found, and what it is given."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Message

import orderstream
from orderstream import consumer
from orderstream.contract.errors import ConfigurationError
from orderstream.contract.events import OrderCreated
from orderstream.contract.topics import Topics
from orderstream.extension.definition import definition_of
from orderstream.extension.events import Event, decode_of, topic_in_force
from orderstream.extension.finding import find
from orderstream.extension.naming import schema_of
from orderstream.extension.stage import consumer_stage, topics_of
from orderstream.flow import SERVICES
from orderstream.runtime.failure import Retry, retry_output
from tests.builders import NOON, an_order, encode


def nothing(batch: object, tx: object) -> None: ...


def faults(**wrong: Any) -> tuple[str, ...]:
    """Return what is said of a consumer with these parts wrong."""
    given = {"name": "fraud", "topics": ["order.created"], "function": nothing} | wrong
    name, function = given.pop("name"), given.pop("function")
    with pytest.raises(ConfigurationError) as refused:
        consumer(name, **given)(function)
    return refused.value.faults


class TestTheDecorator:
    def test_leaves_the_function_as_it_is(self) -> None:
        assert consumer("fraud", topics=["order.created"])(nothing) is nothing
        assert definition_of(nothing, "").topics == ("order.created",)

    @pytest.mark.parametrize(
        "name", ["", "Fraud", "fraud_score", "1st", "-a", "a-", "a--b", "a b", 'a"', "a" * 41]
    )
    def test_refuses_a_name_that_is_no_group_schema_and_label(self, name: str) -> None:
        assert "small letters" in faults(name=name)[0]

    @pytest.mark.parametrize("name", [*SERVICES, "console", "feed", "verify", "dead-letters"])
    def test_refuses_the_names_of_our_own(self, name: str) -> None:
        assert faults(name=name) == (f"consumer {name}: this name is one of ours",)

    @pytest.mark.parametrize(
        ("wrong", "said"),
        [
            ({"topics": []}, "which topics"),
            ({"topics": ["a", "a"]}, "twice"),
            ({"topics": ["a b"]}, "a b"),
            ({"publishes": ["order.created"]}, "it would read what it publishes: order.created"),
            ({"start": "now"}, "start"),
            ({"retries": 11}, "retries"),
            ({"backoff_s": 0.001}, "backoff_s"),
            ({"batch": 0}, "batch"),
        ],
    )
    def test_names_what_is_wrong(self, wrong: dict[str, Any], said: str) -> None:
        (fault,) = faults(**wrong)
        assert said in fault

    def test_names_all_that_is_wrong(self) -> None:
        assert len(faults(name="X", topics=[], batch=0)) == 3

    def test_refuses_a_coroutine(self) -> None:
        async def later(batch: object, tx: object) -> None: ...

        assert "async" in faults(function=later)[0]

    def test_costs_the_command_nothing(self) -> None:
        code = (
            "import sys, orderstream; from orderstream import consumer\n"
            "print([n for n in ('psycopg', 'confluent_kafka', 'fastapi') if n in sys.modules])"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == "[]"

    def test_no_two_names_have_one_schema(self) -> None:
        assert schema_of("a-b") == "consumer_a_b"
        assert "small letters" in faults(name="a_b")[0]

    def test_every_public_name_is_there(self) -> None:
        assert all(getattr(orderstream, name) for name in orderstream.__all__)
        with pytest.raises(AttributeError):
            _ = orderstream.nothing  # pyright: ignore[reportAttributeAccessIssue]


class TestFinding:
    def test_by_module_and_function_in_the_working_folder(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "path", [*sys.path])
        (tmp_path / "mine_to_find.py").write_text(
            "from orderstream import consumer\n"
            '@consumer("found", topics=["order.created"])\n'
            "def it(batch, tx): ...\n"
            "def other(): ...\n"
        )
        assert find("mine_to_find:it").name == "found"
        for target in ("mine_to_find:other", "mine_to_find:no", "mine_to_find:", "no_such:it"):
            with pytest.raises(ConfigurationError, match=target.partition(":")[0]):
                find(target)

    def test_by_entry_point(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.syspath_prepend(str(tmp_path))
        about = tmp_path / "shop-1.0.dist-info"
        about.mkdir()
        (about / "METADATA").write_text("Name: shop\nVersion: 1.0\n")
        (about / "entry_points.txt").write_text("[orderstream.consumers]\nshop = shop_mod:it\n")
        (tmp_path / "shop_mod.py").write_text(
            "from orderstream import consumer\n"
            '@consumer("shop", topics=["order.created"])\n'
            "def it(batch, tx): ...\n"
        )
        assert find("shop").name == "shop"
        with pytest.raises(ConfigurationError, match=r"\(shop\)"):
            find("other")

    def test_what_a_module_lacks_is_its_own_to_say(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "path", [*sys.path])
        (tmp_path / "lacking.py").write_text("import no_such_library\n")
        with pytest.raises(ModuleNotFoundError, match="no_such_library"):
            find("lacking:it")


RENAMED = Topics(order_created="orders", dead_letter_suffix="-dlt")


class TestItsTopics:
    def test_are_called_by_their_default_names_whatever_they_are_renamed_to(self) -> None:
        assert topic_in_force("order.created", RENAMED) == "orders"
        assert topic_in_force("order.created.DLT", RENAMED) == "orders-dlt"
        assert topic_in_force("payments", RENAMED) == "payments"
        event = decode_of("orders", RENAMED)(encode(an_order()))
        assert isinstance(event, OrderCreated)
        assert decode_of("order.created", RENAMED)(b'{"a":1}') == {"a": 1}

    def test_each_have_one_for_retries_and_dead_letters(self) -> None:
        definition = definition_of(
            consumer("fraud", topics=["order.created", "pay", "pay-dlt"], publishes=["said"])(
                nothing
            ),
            "",
        )
        stage = consumer_stage(definition, RENAMED, "team a-fraud")
        assert topics_of(definition, stage, RENAMED) == [
            "orders",
            "orders.team_a-fraud.retry",
            "pay",
            "pay.team_a-fraud.retry",
            "pay-dlt",
            "orders-dlt",
            "said",
        ]
        assert "orders" not in stage.parks
        assert "pay" in stage.parks


class TestAnEvent:
    RECORD = Message(
        "order.created",
        3,
        7,
        b"42",
        b"{}",
        [("ce_id", b"42:order.created"), ("ce_time", b"2026-11-21T12:00:00Z")],
        timestamp=(1, 1000),
    )

    def test_says_where_it_comes_from(self) -> None:
        event = Event({}, "order.created", self.RECORD)
        assert (event.key, event.partition, event.offset) == ("42", 3, 7)
        assert (event.id, event.time) == ("42:order.created", NOON)
        assert event.headers["ce_id"] == b"42:order.created"

    def test_of_another_program_is_named_by_its_place(self) -> None:
        event = Event({}, "pay", Message("pay", 3, 7, None, b"{}", None, timestamp=(1, 1000)))
        assert (event.key, event.id, event.time.timestamp()) == (None, "pay[3]@7", 1.0)
        strange: Any = [("ce_time", b"yesterday")]
        event = Event({}, "pay", Message("pay", 3, 7, None, b"{}", strange, timestamp=(1, 1000)))
        assert event.time.timestamp() == 1.0

    def test_that_is_tried_again_has_the_time_place_and_id_of_the_first_try(self) -> None:
        first = Message("pay", 3, 7, None, b"{}", [], timestamp=(1, 1000))
        again = retry_output(first, "pay.fraud.retry", Retry(1, 99), "fraud")
        headers: Any = again.headers
        second = Message(again.topic, 0, 0, None, b"{}", headers, timestamp=(1, 5000))
        event = Event({}, "pay", second)
        assert (event.partition, event.offset, event.id) == (3, 7, "pay[3]@7")
        assert event.time.timestamp() == 1.0
