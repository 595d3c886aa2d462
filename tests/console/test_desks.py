"""What the console does with topics and groups, on a real broker."""

import asyncio
import itertools
from collections.abc import Iterator
from contextlib import aclosing, closing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from confluent_kafka import Consumer

from orderstream.console.cluster import Cluster
from orderstream.console.groups import GroupDesk, Replays, UnknownGroup, Unsuitable
from orderstream.console.topics import TopicDesk, UnknownTopic, Wanted
from orderstream.console.trail import Trail
from orderstream.contract.errors import Malformed
from orderstream.runtime.admin import Admin
from orderstream.runtime.clock import utc_now
from orderstream.runtime.replay import Move, Plan, Target
from tests.waiting import until

_numbers = itertools.count()
PARTITIONS = 2


@pytest.fixture
def config(kafka: str) -> dict[str, Any]:
    return {"bootstrap.servers": kafka}


@pytest.fixture
def cluster(config: dict[str, Any]) -> Iterator[Cluster]:
    with closing(Cluster(config)) as cluster:
        yield cluster


@pytest.fixture
def topic(config: dict[str, Any]) -> str:
    name = f"console-{next(_numbers)}"
    Admin(config).create([name], PARTITIONS)
    return name


@pytest.fixture
def desk(config: dict[str, Any], cluster: Cluster) -> TopicDesk:
    return TopicDesk(config, "test-console", cluster)


def filled(desk: TopicDesk, topic: str, count: int) -> None:
    for n in range(count):
        written = utc_now()
        # Records of one millisecond and two partitions have no order that a reader could expect.
        until(lambda written=written: utc_now() - written > timedelta(milliseconds=1))
        headers = [("kind", b"even" if n % 2 == 0 else b"odd"), ("n", str(n).encode())]
        desk.produce(topic, f"key-{n}".encode(), f'{{"n":{n}}}'.encode(), headers, n % PARTITIONS)


def numbers(desk: TopicDesk, topic: str, **wanted: Any) -> list[int]:
    return [int(r["key"][4:]) for r in desk.browse(topic, Wanted(**wanted)).records]


class TestRecords:
    @pytest.fixture(autouse=True)
    def ten(self, desk: TopicDesk, topic: str) -> None:
        filled(desk, topic, 10)

    def test_the_newest_come_first(self, desk: TopicDesk, topic: str) -> None:
        assert numbers(desk, topic, limit=3) == [9, 8, 7]

    def test_are_read_from_the_beginning_an_offset_or_a_time(
        self, desk: TopicDesk, topic: str
    ) -> None:
        assert sorted(numbers(desk, topic, start="beginning", limit=100)) == list(range(10))
        assert sorted(numbers(desk, topic, start="3", limit=100)) == [6, 7, 8, 9]
        assert numbers(desk, topic, start="3", partition=1) == [7, 9]
        assert sorted(numbers(desk, topic, start="@0", limit=100)) == list(range(10))
        later = int(datetime.now(UTC).timestamp() * 1000) + 60_000
        assert numbers(desk, topic, start=f"@{later}") == []
        assert numbers(desk, topic, start="end") == []

    def test_are_found_by_key_text_and_header(self, desk: TopicDesk, topic: str) -> None:
        assert numbers(desk, topic, key="key-4") == [4]
        assert numbers(desk, topic, text='"N":7') == [7]
        assert numbers(desk, topic, header="kind=ODD") == [9, 7, 5, 3, 1]
        assert numbers(desk, topic, header="kind=odd", key="key-2") == []

    def test_a_search_says_how_far_it_looked(self, desk: TopicDesk, topic: str) -> None:
        found = desk.browse(topic, Wanted(key="nobody"))
        assert (found.records, found.looked, found.whole) == ([], 10, True)
        some = desk.browse(topic, Wanted(start="beginning", limit=2))
        assert (len(some.records), some.whole) == (2, False)

    def test_what_is_no_text_is_hex_and_no_value_is_none(self, desk: TopicDesk, topic: str) -> None:
        desk.produce(topic, b"\xff\x00", b"\xfe\xff", [], 0)
        desk.produce(topic, b"gone", None, [], 0)
        gone, binary = desk.browse(topic, Wanted(partition=0, limit=2)).records
        assert (gone["key"], gone["value"]) == ("gone", None)
        assert (binary["keyHex"], binary["valueHex"]) == ("ff00", "feff")

    def test_one_that_comes_is_told_live(self, desk: TopicDesk, topic: str) -> None:
        async def told() -> list[dict[str, Any]]:
            async with aclosing(desk.tail(topic, Wanted(header="kind=live"))) as coming:
                assert await anext(coming) == []
                await asyncio.to_thread(desk.produce, topic, b"a", b"1", [], None)
                await asyncio.to_thread(desk.produce, topic, b"b", b"2", [("kind", b"live")], None)
                return await asyncio.wait_for(anext(coming), 30)

        assert [record["key"] for record in asyncio.run(told())] == ["b"]

    def test_an_unknown_topic_partition_or_place_is_refused(
        self, desk: TopicDesk, topic: str
    ) -> None:
        for ask in (
            lambda: desk.show("nowhere"),
            lambda: desk.browse("nowhere", Wanted()),
            lambda: desk.browse(topic, Wanted(partition=7)),
            lambda: desk.produce("nowhere", None, b"", [], None),
        ):
            with pytest.raises(UnknownTopic):
                ask()
        for wrong in (
            lambda: desk.browse(topic, Wanted(start="yesterday")),
            lambda: desk.produce(topic, None, b"", [], 7),
        ):
            with pytest.raises(Malformed):
                wrong()


def test_a_topic_shows_its_partitions_and_settings(desk: TopicDesk, topic: str) -> None:
    filled(desk, topic, 3)
    shown = desk.show(topic)
    assert [(p["partition"], p["begin"], p["end"]) for p in shown["partitions"]] == [
        (0, 0, 2),
        (1, 0, 1),
    ]
    assert all(p["inSync"] == p["replicas"] for p in shown["partitions"])
    own = {entry["name"]: entry["value"] for entry in shown["config"] if entry["own"]}
    assert own["min.insync.replicas"] == "1"
    assert all(p["bytes"] >= p["end"] * len('{"n":0}') for p in shown["partitions"])
    (listed,) = [one for one in desk.every() if one["name"] == topic]
    assert (listed["partitions"], listed["records"]) == (PARTITIONS, 3)
    assert listed["bytes"] == sum(p["bytes"] for p in shown["partitions"])


PLAN = Plan((Move("order.created", 0, 9, 0),), rebuild=True, cut=())


class TestGroups:
    @pytest.fixture
    def replayed(self) -> list[tuple[str, Target]]:
        return []

    @pytest.fixture
    def groups(
        self, config: dict[str, Any], cluster: Cluster, replayed: list[tuple[str, Target]]
    ) -> Iterator[GroupDesk]:
        def run(service: str, target: Target) -> Plan:
            replayed.append((service, target))
            return PLAN

        replays = Replays(lambda _service, _target: PLAN, run)
        ours = {"ours-view": "view"}
        with closing(GroupDesk(config, "test-console", ours, replays, cluster)) as desk:
            yield desk

    @pytest.fixture
    def group(self, config: dict[str, Any], desk: TopicDesk, topic: str) -> str:
        """A group that has read all ten, and is empty."""
        filled(desk, topic, 10)
        name = f"group-of-{topic}"
        with closing(reader(config, name)) as consumer:
            consumer.subscribe([topic])
            seen: list[Any] = []
            until(lambda: seen.extend(consumer.consume(10, 0.2)) or len(seen) >= 10)
            consumer.commit(asynchronous=False)
        return name

    def test_one_shows_where_it_is(self, groups: GroupDesk, group: str, topic: str) -> None:
        shown = groups.show(group)
        assert {(p["topic"], p["committed"], p["behind"]) for p in shown["partitions"]} == {
            (topic, 5, 0)
        }
        until(lambda: groups.show(group)["state"] == "EMPTY")
        assert group in {one["group"] for one in groups.every()}

    @pytest.mark.parametrize(
        ("to", "places"),
        [
            ("beginning", [0, 0]),
            ("end", [5, 5]),
            ("3", [3, 3]),
            ("99", [5, 5]),
            ("-2", [3, 3]),
            ("+7", [5, 5]),
            ("@0", [0, 0]),
        ],
    )
    def test_an_empty_one_is_set_as_the_dry_run_said(
        self, groups: GroupDesk, group: str, topic: str, to: str, places: list[int]
    ) -> None:
        until(lambda: groups.show(group)["state"] == "EMPTY")
        plan = groups.reset(group, topic, to, dry_run=True)
        assert (plan["done"], [p["to"] for p in plan["partitions"]]) == (False, places)
        assert [p["committed"] for p in groups.show(group)["partitions"]] == [5, 5]
        assert groups.reset(group, topic, to, dry_run=False)["done"] is True
        assert [p["committed"] for p in groups.show(group)["partitions"]] == places

    def test_one_with_members_is_not_set(
        self, config: dict[str, Any], groups: GroupDesk, group: str, topic: str
    ) -> None:
        with closing(reader(config, group)) as consumer:
            consumer.subscribe([topic])
            until(lambda: consumer.poll(0.1) or groups.show(group)["members"])
            with pytest.raises(Unsuitable, match="1 members"):
                groups.reset(group, topic, "beginning", dry_run=False)
            assert groups.reset(group, topic, "beginning", dry_run=True)["members"] == 1

    def test_our_own_is_replayed_and_never_passes_over_anything(
        self, groups: GroupDesk, replayed: list[tuple[str, Target]]
    ) -> None:
        plan = groups.reset("ours-view", None, "beginning", dry_run=True)
        assert (plan["rebuild"], plan["done"], replayed) == (True, False, [])
        groups.reset("ours-view", None, "@1000", dry_run=False)
        assert replayed == [("view", Target(time_ms=1000))]
        for to in ("end", "+5"):
            with pytest.raises(Malformed, match="never passed over"):
                groups.reset("ours-view", None, to, dry_run=False)
        with pytest.raises(Malformed, match="all of its topics"):
            groups.reset("ours-view", "order.created", "beginning", dry_run=False)

    def test_a_goal_that_is_none_is_refused(self, groups: GroupDesk, group: str) -> None:
        with pytest.raises(Malformed):
            groups.reset(group, None, "yesterday", dry_run=True)

    def test_a_group_that_has_read_nothing_has_nothing_to_set(self, groups: GroupDesk) -> None:
        with pytest.raises(UnknownGroup):
            groups.reset("nobody", None, "beginning", dry_run=True)
        with pytest.raises(UnknownGroup):
            groups.show("nobody")


def reader(config: dict[str, Any], group: str) -> Consumer:
    return Consumer(config | {"group.id": group, "auto.offset.reset": "earliest", "log_level": 0})


class TestTheTrail:
    def test_tells_the_newest_first_and_keeps_for_ever(self, config: dict[str, Any]) -> None:
        topic = f"audit-{next(_numbers)}"
        trail = Trail(config, topic, "test-console", utc_now)
        trail.create()
        trail.create()
        for n in range(3):
            trail.end("boss", "cancel", f"order {n}", "done", "<b>why</b>")
        entries = trail.newest(2)
        assert [entry["target"] for entry in entries] == ["order 2", "order 1"]
        assert entries[0]["who"] == "boss"
        settings = {c["name"]: c["value"] for c in Admin(config).config_of(topic)}
        assert settings["retention.ms"] == "-1"

    def test_passes_over_what_others_wrote(self, config: dict[str, Any], desk: TopicDesk) -> None:
        topic = f"audit-{next(_numbers)}"
        trail = Trail(config, topic, "test-console", utc_now)
        trail.create()
        for stray in (b"\xff no JSON", b"{}", b"[]", b'{"who":1}'):
            desk.produce(topic, None, stray, [], None)
        trail.begin("boss", "cancel", "order")
        assert [entry["who"] for entry in trail.newest(10)] == ["boss"]
