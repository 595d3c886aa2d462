"""Asks the services over their public HTTP APIs, for somebody and with their key."""

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx

from orderstream.contract.errors import Unavailable

TIMEOUT_S = 15.0
CONNECT_TIMEOUT_S = 2.0
WHOLE_S = 60.0  # One that streams for ever is given up.
ANSWER_MAX = 64 << 20
_HANDED_ON = ("content-type", "prefer", "idempotency-key", "traceparent")
_HANDED_BACK = ("content-type", "retry-after", "location")


class Refused(Unavailable):
    """A service answers, and does not do it: its status and what it said."""

    def __init__(self, status: int, said: str) -> None:
        super().__init__(f"answers {status}: {said}")
        self.status = status


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
        """Return what a GET answers, read as JSON. Raises Refused for any status but 200."""
        params = {name: str(value) for name, value in query.items() if value is not None}
        if params:
            path = f"{path}?{httpx.QueryParams(params)}"
        async with self._asked("GET", service, path, key) as answer:
            content = await _whole(service, answer)
        if answer.status_code != 200:
            raise Refused(answer.status_code, content.decode("utf-8", "replace")[:500])
        try:
            return json.loads(content)
        except ValueError as error:
            raise Unavailable(
                f"{service} does not answer in JSON: is it another program?"
            ) from error

    async def text(self, service: str, path: str) -> tuple[int, str]:
        """Return the status of an open GET, and its body as text."""
        async with self._asked("GET", service, path, None) as answer:
            return answer.status_code, (await _whole(service, answer)).decode("utf-8", "replace")

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
        """Have a service answer a request of the page: status, headers and body as they come.

        `path` is as it is on the wire, and goes to that service alone, whatever is in it.
        """
        sent = {name: headers[name] for name in _HANDED_ON if name in headers}
        target = f"{path}?{query}" if query else path
        async with (
            asyncio.timeout(WHOLE_S),
            self._asked(method, service, target, key, sent, content=body) as answer,
        ):
            content = await _whole(service, answer)
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
        url = httpx.URL(self.addresses[service]).copy_with(raw_path=path.encode("latin-1"))
        try:
            async with self._client.stream(method, url, headers=sent, **more) as answer:
                yield answer
        except httpx.ConnectError as error:
            raise Unavailable(f"{service} is away: nothing listens at its address") from error
        except TimeoutError as error:
            raise Unavailable(f"{service} did not answer in time") from error
        except httpx.TransportError as error:
            said = str(error) or type(error).__name__
            raise Unavailable(f"{service} did not answer: {said}") from error


async def _whole(service: str, answer: httpx.Response) -> bytes:
    if answer.headers.get("content-type", "").startswith("text/event-stream"):
        raise Unavailable(f"{service} answers with a stream that has no end")
    parts: list[bytes] = []
    size = 0
    async for part in answer.aiter_bytes():
        size += len(part)
        if size > ANSWER_MAX:
            raise Unavailable(f"{service} answers with more than {ANSWER_MAX >> 20} MiB")
        parts.append(part)
    return b"".join(parts)
