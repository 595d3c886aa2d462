"""The feed follows the log while somebody listens, whatever the moment that they come or go."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

import anyio

from orderstream.order_view.feed import Feed, OnRecords
from orderstream.order_view.rules import Seen
from orderstream.runtime.stage import Positions, Record
from tests.builders import NOON, an_order, reserved

TOPIC = "events"


class Log:
    """A log of one partition, and who follows it."""

    def __init__(self) -> None:
        self.end = 0
        self.followers: list[OnRecords] = []
        self.ever: list[OnRecords] = []
        self.said_at_the_start = 0  # Events, between the begin of following and its answer.

    def follow(self, on_records: OnRecords) -> tuple[Positions, Callable[[], None]]:
        begins = {(TOPIC, 0): self.end}
        self.followers.append(on_records)
        self.ever.append(on_records)
        self.say(self.said_at_the_start)
        return begins, lambda: self.followers.remove(on_records)

    def say(self, count: int = 1, to: OnRecords | None = None) -> None:
        """Let so many orders be reserved."""
        records = [a_record(self.end + number) for number in range(count)]
        self.end += count
        for follower in [to] if to else self.followers:
            if records:
                follower(records)

    def read_between(self, begins: Positions, ends: Positions, on_records: OnRecords) -> None:
        first, last = begins[TOPIC, 0], ends[TOPIC, 0]
        if first < last:
            on_records([a_record(offset) for offset in range(first, last)])


def a_record(offset: int) -> Record:
    found = SimpleNamespace(
        topic=lambda: TOPIC,
        partition=lambda: 0,
        offset=lambda: offset,
        key=lambda: str(offset).encode(),
    )
    return cast("Record", found)


def seen(record: Record) -> Seen:
    offset = record.offset() or 0
    event = reserved(an_order(order_id=offset))
    return Seen(event, f"{offset}:inventory.reserved", NOON, TOPIC, 0, offset)


class Client:
    """Takes what it is sent, until it goes as a client goes: by the cancel scope of its request."""

    def __init__(self) -> None:
        self.offsets: list[int] = []
        self.last_id = ""

    async def listen(self, parts: AsyncIterator[bytes]) -> None:
        async for part in parts:
            for line in part.decode().splitlines():
                name, _, value = line.partition(": ")
                if name == "id":
                    self.last_id = value
                elif name == "data":
                    self.offsets.append(json.loads(value)["offset"])


@asynccontextmanager
async def listening(feed: Feed, last_id: str | None = None) -> AsyncIterator[Client]:
    client = Client()
    async with anyio.create_task_group() as group:
        group.start_soon(client.listen, feed.of_all(last_id))
        await until(lambda: client.last_id)
        yield client
        group.cancel_scope.cancel()


async def until(look: Callable[[], Any]) -> None:
    async with asyncio.timeout(5):
        while not look():
            await asyncio.sleep(0.001)


def run(test: Callable[[Log, Feed], Awaitable[None]]) -> None:
    async def main() -> None:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
        log = Log()
        await test(log, Feed({TOPIC: seen}, log.follow, log.read_between))

    asyncio.run(main())


class TestAListenerWhoGoes:
    def test_leaves_nobody_following_though_all_threads_are_busy(self) -> None:
        async def test(log: Log, feed: Feed) -> None:
            async with listening(feed):
                assert len(log.followers) == 1
                asyncio.get_running_loop().run_in_executor(None, time.sleep, 0.2)
            await until(lambda: log.followers == [])

        run(test)

    def test_is_followed_by_another_who_hears_each_event_once(self) -> None:
        async def test(log: Log, feed: Feed) -> None:
            async with listening(feed):
                pass
            await until(lambda: log.followers == [])
            log.say()
            async with listening(feed) as client:
                log.say(to=log.ever[0])  # One that did not end in time.
                log.say(2)
                await until(lambda: len(client.offsets) == 2)
            assert client.offsets == [2, 3]

        run(test)


class TestAListenerWhoComes:
    def test_misses_nothing_that_is_said_while_following_begins(self) -> None:
        async def test(log: Log, feed: Feed) -> None:
            async with listening(feed) as before:
                log.say()
                await until(lambda: before.offsets == [0])
            await until(lambda: log.followers == [])
            log.said_at_the_start = 3
            async with listening(feed, before.last_id) as client:
                log.say()
                await until(lambda: len(client.offsets) == 4)
            assert client.offsets == [1, 2, 3, 4]

        run(test)

    def test_misses_nothing_that_is_on_its_way_to_others(self) -> None:
        async def test(log: Log, feed: Feed) -> None:
            of_another = feed.of_order("another", page_of, None)
            await anext(of_another)
            log.say()  # For nobody yet.
            parts = feed.of_all(None)
            await anext(parts)
            assert b'"offset":0' in await anext(parts)

        run(test)


async def page_of(_order_id: str) -> dict[str, Any]:
    return {"timeline": []}
