"""Who holds one of the places of orders that are being accepted, and who is counted."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, cast

import httpx
import pytest
from prometheus_client import REGISTRY

from orderstream.orders import api
from orderstream.orders.api import OrdersApi
from orderstream.orders.desk import Accepted, Desk
from orderstream.orders.rules import Request
from orderstream.runtime.web import web_app
from tests.routes.asking import problem_of

ORDER = b'{"userId":1,"items":[{"sku":"MUG","qty":1}]}'


class Door:
    """An order service with one place, whose desk and decisions each wait to be let go on."""

    def __init__(self) -> None:
        self.accepting, self.deciding = asyncio.Event(), asyncio.Event()
        app = OrdersApi(web_app("orders", {}), cast("Desk", self), self.decided, 1)
        transport = httpx.ASGITransport(app)
        self.http = httpx.AsyncClient(transport=transport, base_url="http://localhost")

    def accept_now(self, *_: object) -> bool:
        return False

    async def accept(self, _request: Request, *_: object) -> Accepted:
        await self.accepting.wait()
        return Accepted(7)

    async def decided(self, _order_id: str, _seconds: float) -> dict[str, Any]:
        await self.deciding.wait()
        return {"orderId": 7, "status": "CONFIRMED"}

    def post(self, content: Any = ORDER, **headers: str) -> asyncio.Task[httpx.Response]:
        return asyncio.create_task(
            self.http.post("/api/orders", content=content, headers=headers, timeout=10)
        )


def at_door(what: Callable[[Door], Awaitable[None]]) -> None:
    async def with_door() -> None:
        door = Door()
        async with door.http:
            await what(door)

    asyncio.run(with_door())


async def never(begin: bytes) -> AsyncIterator[bytes]:
    """A body that begins, and does not go on."""
    yield begin
    await asyncio.Event().wait()


def counted(status: int) -> float:
    return REGISTRY.get_sample_value("orderstream_orders_total", {"status": str(status)}) or 0


async def settled() -> None:
    """Let every task get as far as it can."""
    for _ in range(20):
        await asyncio.sleep(0)


class TestAPlace:
    def test_is_held_while_the_order_is_being_accepted(self) -> None:
        async def look(door: Door) -> None:
            first = door.post()
            await settled()
            assert problem_of(await door.post()) == "overloaded"
            door.accepting.set()
            assert (await first).status_code == 202
            assert (await door.post()).status_code == 202

        at_door(look)

    def test_is_free_again_while_the_client_waits_for_the_decision(self) -> None:
        async def look(door: Door) -> None:
            door.accepting.set()
            waiting = door.post(prefer="wait=10")
            await settled()
            assert not waiting.done()
            assert (await door.post()).status_code == 202
            door.deciding.set()
            assert (await waiting).json()["status"] == "CONFIRMED"

        at_door(look)

    @pytest.mark.parametrize("begin", [b"", ORDER[:9]])
    def test_is_not_held_by_a_body_on_its_way_which_ends_in_time(
        self, monkeypatch: pytest.MonkeyPatch, begin: bytes
    ) -> None:
        monkeypatch.setattr(api, "BODY_TIMEOUT_S", 0.2)

        async def look(door: Door) -> None:
            door.accepting.set()
            slow = [door.post(never(begin)) for _ in range(3)]
            await settled()
            assert (await door.post()).status_code == 202
            for answer in await asyncio.gather(*slow):
                assert (answer.status_code, problem_of(answer)) == (408, "too-slow")
                assert answer.headers["connection"] == "close"
            assert (await door.post()).status_code == 202

        at_door(look)

    def test_a_client_that_is_cancelled_is_not_told_that_it_was_slow(self) -> None:
        async def look(door: Door) -> None:
            slow = door.post(never(b""))
            await settled()
            slow.cancel()
            with pytest.raises(asyncio.CancelledError):
                await slow

        at_door(look)


class TestTheCounter:
    def test_has_every_answer_by_its_status(self) -> None:
        async def look(door: Door) -> None:
            door.accepting.set()
            door.deciding.set()
            for status, send in (
                (200, lambda: door.post(prefer="wait=1")),
                (202, door.post),
                (400, lambda: door.post(b"{")),
                (403, lambda: door.post(origin="https://evil.example")),
                (403, lambda: door.post(host="evil.example")),
                (422, lambda: door.post(b"[]")),
            ):
                assert (await send()).status_code == status
                posted[status] = posted.get(status, 0) + 1

        posted: dict[int, int] = {}
        before = {status: counted(status) for status in (200, 202, 400, 403, 422)}
        at_door(look)
        assert {status: counted(status) - was for status, was in before.items()} == posted


class TestOurOwnPage:
    def test_may_post(self) -> None:
        async def look(door: Door) -> None:
            door.accepting.set()
            own = door.post(host="127.0.0.1:8080", origin="http://127.0.0.1:8080")
            assert (await own).status_code == 202

        at_door(look)
