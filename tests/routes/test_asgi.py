"""The order service under a server that is not ours: who may ask, and when."""

import asyncio
from typing import Any

import httpx
import pytest

from orderstream.contract.errors import ConfigurationError
from orderstream.runtime.settings import Settings
from orderstream.wiring.asgi import OrderService


def never() -> Settings:
    raise AssertionError("not asked for")


async def inside(_scope: Any, _receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"in"})


def ask(service: OrderService, at: str) -> httpx.Response:
    async def answered() -> httpx.Response:
        transport = httpx.ASGITransport(service)
        async with httpx.AsyncClient(transport=transport, base_url=at) as client:
            return await client.post("/orders", json={})

    return asyncio.run(answered())


class TestWithoutKeys:
    @pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
    def test_this_machine_is_served(self, host: str) -> None:
        service = OrderService(never)
        service._app = inside
        assert ask(service, f"http://{host}:8001").text == "in"

    def test_the_network_is_not(self) -> None:
        service = OrderService(never)
        service._app = inside
        answer = ask(service, "http://10.0.0.1:8001")
        assert (answer.status_code, answer.headers["content-type"]) == (
            403,
            "application/problem+json",
        )
        assert "ORDERSTREAM_API_KEYS" in answer.json()["detail"]

    def test_with_them_it_is(self) -> None:
        service = OrderService(never)
        service._app, service._keyed = inside, True
        assert ask(service, "http://10.0.0.1:8001").text == "in"


class TestTheStart:
    def test_says_all_that_is_wrong(self) -> None:
        def wrong() -> Settings:
            raise ConfigurationError("A: is wrong", "B: is wrong, too")

        said: list[Any] = []

        async def receive() -> Any:
            return {"type": "lifespan.startup"}

        async def send(message: Any) -> None:
            said.append(message)

        asyncio.run(OrderService(wrong)({"type": "lifespan"}, receive, send))
        assert [one["type"] for one in said] == ["lifespan.startup.failed"]
        assert said[0]["message"].endswith("A: is wrong\nB: is wrong, too")

    def test_has_to_have_been(self) -> None:
        with pytest.raises(RuntimeError, match="lifespan is off"):
            ask(OrderService(never), "http://127.0.0.1:8001")
