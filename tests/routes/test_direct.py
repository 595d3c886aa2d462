"""A route without ASGI answers in order, within its bounds, and to who is still there."""

import asyncio
import re
import socket
from collections.abc import Iterator
from threading import Thread

import pytest

from orderstream.local.processes import free_port
from orderstream.runtime import connection
from orderstream.runtime.direct import Answer, DirectRoute, Headers
from orderstream.runtime.server import WebServer, run
from tests.ports import own_port
from tests.routes.test_one_write import app, ask, connect
from tests.waiting import until

LATE_S = 0.15

handled: list[bytes] = []


def handle(headers: Headers, body: bytes, answer: Answer) -> None:
    """Answer with the body: at once, or later where the body says so."""
    assert (b"host", b"localhost") in headers
    handled.append(body)
    if body == b"at once":
        answer(200, [], body)
    else:
        asyncio.get_running_loop().call_later(LATE_S, answer, 202, [(b"x", b"y")], body)


ROUTE = DirectRoute(
    frozenset({b"/direct"}), handle, 100, 0.5, lambda answer: answer(413, [], b"too large")
)


class Served:
    def __init__(self) -> None:
        self.port = own_port()
        self.server = WebServer(app, "127.0.0.1", self.port, direct=ROUTE)
        self.serving = Thread(target=run, args=(self.server.serve,))
        self.serving.start()
        until(lambda: free_port(self.port) != self.port, what="it listens")

    def end(self) -> None:
        self.server.stop()
        self.serving.join(10)
        assert not self.serving.is_alive()


@pytest.fixture
def served() -> Iterator[Served]:
    handled.clear()
    served = Served()
    yield served
    served.end()


def post(body: bytes, more: str = "") -> bytes:
    return ask("/direct", "POST", f"Content-Length: {len(body)}\r\n{more}") + body


def all_of(client: socket.socket) -> bytes:
    return b"".join(iter(lambda: client.recv(65_536), b""))


def statuses(answers: bytes) -> list[bytes]:
    return re.findall(rb"HTTP/1.1 (\d+)", answers)


class TestADirectRoute:
    def test_answers_at_once_or_later_again_and_again(self, served: Served) -> None:
        with connect(served.port) as client:
            for body, status in ((b"at once", b"200"), (b"later", b"202")) * 3:
                client.sendall(post(body))
                answer = client.recv(65_536)
                assert statuses(answer) == [status]
                assert answer.endswith(b"content-length: %d\r\n\r\n%s" % (len(body), body))

    def test_is_as_well_reached_with_a_body_in_pieces_and_in_chunks(self, served: Served) -> None:
        with connect(served.port) as client:
            for piece in post(b"at once"):
                client.sendall(bytes([piece]))
            assert client.recv(65_536).endswith(b"at once")
            head = ask("/direct", "POST", "Transfer-Encoding: chunked\r\n")
            client.sendall(head + b"3\r\nat \r\n4\r\nonce\r\n0\r\n\r\n")
            assert client.recv(65_536).endswith(b"at once")

    def test_keeps_the_order_of_requests_sent_together(self, served: Served) -> None:
        with connect(served.port) as client:
            client.sendall(
                post(b"later") + ask("/body") + ask("/body", more="Connection: close\r\n")
            )
            assert statuses(all_of(client)) == [b"202", b"200", b"200"]

    def test_is_asked_for_the_less_common_by_asgi(self, served: Served) -> None:
        with connect(served.port) as client:
            client.sendall(ask("/direct") + post(b"at once", "Connection: close\r\n"))
            assert b"Internal Server Error" in all_of(client)  # The app has no such path.

    def test_refuses_a_body_that_is_too_large_and_goes_on(self, served: Served) -> None:
        with connect(served.port) as client:
            client.sendall(post(b"x" * 50_000))
            assert statuses(client.recv(65_536)) == [b"413"]
            client.sendall(post(b"at once"))
            assert statuses(client.recv(65_536)) == [b"200"]

    def test_does_not_wait_for_a_body_for_ever(self, served: Served) -> None:
        with connect(served.port) as client:
            client.sendall(post(b"at once")[:-3])
            assert statuses(all_of(client)) == [b"408"]

    def test_answers_what_is_under_way_when_the_server_ends(self, served: Served) -> None:
        with connect(served.port) as client:
            client.sendall(post(b"at once"))
            client.recv(65_536)
            client.sendall(post(b"later"))
            until(lambda: len(handled) == 2, what="it has the request")
            served.server.stop()
            answer = all_of(client)
            assert statuses(answer) == [b"202"]
            assert b"connection: close\r\n" in answer

    def test_says_nothing_to_a_client_that_is_gone(
        self, served: Served, caplog: pytest.LogCaptureFixture
    ) -> None:
        for _ in range(10):
            with connect(served.port) as client:
                client.sendall(post(b"later"))
        with connect(served.port) as client:  # Answered after all of theirs.
            client.sendall(post(b"later"))
            assert statuses(client.recv(65_536)) == [b"202"]
        assert len(handled) == 11
        assert not caplog.records

    def test_ends_a_connection_that_is_idle(
        self, served: Served, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(connection, "KEEP_ALIVE_S", 0.1)
        with connect(served.port) as client:
            client.sendall(post(b"at once"))
            assert statuses(all_of(client)) == [b"200"]
