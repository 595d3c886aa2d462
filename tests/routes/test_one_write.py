"""Each answer goes out whole, and those without a body go out too."""

import asyncio
import re
import socket
from collections.abc import Iterator
from threading import Thread
from typing import Any

import pytest

from orderstream.local.processes import free_port
from orderstream.runtime.server import WebServer, run
from tests.ports import own_port
from tests.waiting import until

BODIES = {"/body": b"{}", "/empty": b"", "/large": b"x" * 300_000}


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return
    while (await receive()).get("more_body"):
        pass
    body = BODIES[scope["path"]]
    status = 200 if body else 204
    headers = [(b"content-length", b"%d" % len(body))] if body else []
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await asyncio.sleep(0)
    await send({"type": "http.response.body", "body": body})


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    port = own_port()
    server = WebServer(app, "127.0.0.1", port)
    serving = Thread(target=run, args=(server.serve,))
    serving.start()
    until(lambda: free_port(port) != port, what="it listens")
    yield port
    server.stop()
    serving.join(10)


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=5)


def ask(path: str, method: str = "GET", more: str = "") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n{more}\r\n".encode()


class TestAnAnswer:
    def test_comes_whole_in_one_piece_again_and_again(self, port: int) -> None:
        with connect(port) as client:
            for _ in range(20):
                client.sendall(ask("/body"))
                assert client.recv(65_536).endswith(b"\r\n\r\n{}")

    @pytest.mark.parametrize(("path", "method"), [("/empty", "GET"), ("/body", "HEAD")])
    def test_without_a_body_comes_too(self, port: int, path: str, method: str) -> None:
        with connect(port) as client:
            for _ in range(3):
                client.sendall(ask(path, method))
                assert client.recv(65_536).endswith(b"\r\n\r\n")

    def test_to_requests_sent_together_come_in_order(self, port: int) -> None:
        with connect(port) as client:
            client.sendall(
                ask("/body") + ask("/empty") + ask("/body", more="Connection: close\r\n")
            )
            answers = b"".join(iter(lambda: client.recv(65_536), b""))
            assert re.findall(rb"HTTP/1.1 (\d+)", answers) == [b"200", b"204", b"200"]

    def test_larger_than_the_buffers_comes_whole(self, port: int) -> None:
        with connect(port) as client:
            client.sendall(ask("/large", more="Connection: close\r\n"))
            answer = b"".join(iter(lambda: client.recv(65_536), b""))
            assert answer.partition(b"\r\n\r\n")[2] == BODIES["/large"]

    def test_that_asks_for_the_body_does_not_wait_for_it(self, port: int) -> None:
        with connect(port) as client:
            client.sendall(ask("/body", "POST", "Content-Length: 2\r\nExpect: 100-continue\r\n"))
            assert client.recv(65_536).startswith(b"HTTP/1.1 100")
            client.sendall(b"{}")
            assert client.recv(65_536).startswith(b"HTTP/1.1 200")

    def test_to_what_is_no_request_comes_and_the_connection_ends(self, port: int) -> None:
        with connect(port) as client:
            client.sendall(b"\x16\x03\x01 nonsense\r\n\r\n")
            answer = b"".join(iter(lambda: client.recv(65_536), b""))
            assert answer.startswith(b"HTTP/1.1 400")
