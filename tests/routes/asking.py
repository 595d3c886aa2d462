"""Requests to a web app, without a server."""

import asyncio

import httpx
from fastapi import FastAPI


def ask(app: FastAPI, method: str, path: str, **options: object) -> httpx.Response:
    """Send one request to the app, without a server."""

    async def send() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.request(method, path, **options)  # pyright: ignore[reportArgumentType]

    return asyncio.run(send())


def problem_of(answer: httpx.Response) -> str:
    """Return the name of the problem that the answer is."""
    return answer.json()["type"].rpartition(":")[2]
