"""Who watches an order is told its whole life, once, whenever they come."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from psycopg import OperationalError

from orderstream.contract.errors import Unavailable
from orderstream.order_view.rules import Seen, fold
from orderstream.order_view.store_postgres import PostgresView
from orderstream.order_view.watching import Watching
from orderstream.runtime.database import Database
from tests.builders import NOON, an_order, cancelled, reserved
from tests.stores.conftest import Emptied

TOPICS = ["order.created", "inventory.reserved", "order.cancelled"]
ORDER = an_order(order_id=7)
CREATED, RESERVED, CANCELLED = [
    Seen(event, topic, NOON, topic, 0, 3)
    for event, topic in zip((ORDER, reserved(ORDER), cancelled(ORDER)), TOPICS, strict=True)
]


@pytest.fixture
def database(emptied: Emptied) -> Database:
    return emptied("order_view")


def fold_in(database: Database, *seen: Seen) -> None:
    with database.transaction() as tx:
        PostgresView(database).fold_in(tx, fold(seen).values())


def run(database: Database, test: Callable[[Watching], Awaitable[None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(20):
            await test(Watching(PostgresView(database), TOPICS))

    asyncio.run(main())


async def told(parts: AsyncIterator[bytes], count: int) -> tuple[list[Any], str]:
    """Take so many events; return their types, and the last id."""
    types: list[Any] = []
    last_id = ""
    while len(types) < count:
        for line in (await anext(parts)).decode().splitlines():
            name, _, value = line.partition(": ")
            if name == "data":
                types.append(json.loads(value)["type"])
            elif name == "id":
                last_id = value
    return types, last_id


class TestWatching:
    def test_tells_what_was_and_then_what_comes(self, database: Database) -> None:
        async def test(watching: Watching) -> None:
            parts = watching.of_order("7", None)
            fold_in(database, CREATED)
            assert (await told(parts, 1))[0] == ["order.created"]
            fold_in(database, RESERVED, CANCELLED)
            assert sorted((await told(parts, 2))[0]) == ["inventory.reserved", "order.cancelled"]

        run(database, test)

    def test_tells_who_comes_later_everything_and_nobody_anything_twice(
        self, database: Database
    ) -> None:
        async def test(watching: Watching) -> None:
            fold_in(database, CREATED)
            first, second = watching.of_order("7", None), watching.of_order("7", None)
            await told(first, 1)
            assert (await told(second, 1))[0] == ["order.created"]
            fold_in(database, RESERVED)
            assert (await told(first, 1))[0] == ["inventory.reserved"]
            assert (await told(second, 1))[0] == ["inventory.reserved"]

        run(database, test)

    def test_goes_on_behind_the_last_id(self, database: Database) -> None:
        async def test(watching: Watching) -> None:
            fold_in(database, CREATED)
            parts = watching.of_order("7", None)
            _, last_id = await told(parts, 1)
            fold_in(database, RESERVED)
            again = watching.of_order("7", last_id)
            assert (await told(again, 1))[0] == ["inventory.reserved"]

        run(database, test)

    def test_waits_while_the_store_is_away(
        self, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        grown, looks = PostgresView.grown, iter([OperationalError("away")])

        def fails_once(self: PostgresView, known: dict[str, int]) -> dict[str, int]:
            for error in looks:
                raise error
            return grown(self, known)

        monkeypatch.setattr(PostgresView, "grown", fails_once)

        async def test(watching: Watching) -> None:
            fold_in(database, CREATED)
            assert (await told(watching.of_order("7", None), 1))[0] == ["order.created"]

        run(database, test)

    def test_cuts_all_off_when_the_service_ends(self, database: Database) -> None:
        async def test(watching: Watching) -> None:
            fold_in(database, CREATED)
            parts = watching.of_order("7", None)
            await told(parts, 1)
            await watching.close()
            with pytest.raises(StopAsyncIteration):
                await anext(parts)
            with pytest.raises(Unavailable):
                await anext(watching.of_order("7", None))

        run(database, test)
