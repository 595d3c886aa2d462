"""Asks the services over their public HTTP APIs, for somebody and with their key."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx

from orderstream.contract.errors import Unavailable

TIMEOUT_S = 15.0
CONNECT_TIMEOUT_S = 2.0
_HANDED_ON = ("content-type", "prefer", "idempotency-key", "traceparent")
_HANDED_BACK = ("content-type", "retry-after", "location")


class Services:
    """The services by name; for one event loop. Every method raises Unavailable."""

    def __init__(self, addresses: Mapping[str, str]) -> None:
        self.addresses = dict(addresses)
        self._client = httpx.AsyncClient(
            timeout=httpx.Timeout(TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
            trust_env=False,
            limits=httpx.Limits(max_connections=100, max_keepalive_connections=20),
        )

    async def close(self) -> None:
        """Let go of the connections."""
        await self._client.aclose()

    async def get(self, service: str, path: str, key: str | None = None, **query: object) -> Any:
        """Return what a GET answers, read as JSON; a refusal is Unavailable too."""
        params = {name: str(value) for name, value in query.items() if value is not None}
        async with self._asked("GET", service, path, key, params=params) as answer:
            await answer.aread()
        if answer.status_code != 200:
            raise Unavailable(f"{service} answers {answer.status_code}")
        return answer.json()

    async def text(self, service: str, path: str) -> tuple[int, str]:
        """Return the status of an open GET, and its body as text."""
        async with self._asked("GET", service, path, None) as answer:
            return answer.status_code, (await answer.aread()).decode("utf-8", "replace")

    async def pass_on(
        self,
        method: str,
        service: str,
        path: str,
        *,
        key: str | None,
        query: str,
        body: bytes,
        headers: Mapping[str, str],
    ) -> tuple[int, dict[str, str], bytes]:
        """Have a service answer a request of the page: status, headers and body as they come."""
        sent = {name: headers[name] for name in _HANDED_ON if name in headers}
        async with self._asked(
            method, service, f"{path}?{query}" if query else path, key, sent, content=body
        ) as answer:
            content = await answer.aread()
        handed = {name: answer.headers[name] for name in _HANDED_BACK if name in answer.headers}
        return answer.status_code, handed, content

    @asynccontextmanager
    async def _asked(
        self,
        method: str,
        service: str,
        path: str,
        key: str | None,
        headers: Mapping[str, str] | None = None,
        **more: Any,
    ) -> AsyncGenerator[httpx.Response]:
        sent = dict(headers or {}) | ({} if key is None else {"x-api-key": key})
        url = self.addresses[service] + path
        try:
            async with self._client.stream(method, url, headers=sent, **more) as answer:
                yield answer
        except httpx.ConnectError as error:
            raise Unavailable(f"{service} is away: nothing listens at its address") from error
        except httpx.TransportError as error:
            said = str(error) or type(error).__name__
            raise Unavailable(f"{service} did not answer: {said}") from error
