"""A route without ASGI answers in order, within its bounds, and to who is still there."""

import asyncio
import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from threading import Thread

import pytest
from structlog.testing import capture_logs

from orderstream.local.processes import free_port
from orderstream.runtime import connection
from orderstream.runtime.direct import HEADS_MAX, Answer, DirectRoute, Headers, KnownHeads
from orderstream.runtime.server import WebServer, run
from tests.ports import own_port
from tests.routes.test_one_write import app, ask, connect
from tests.waiting import until

LATE_S = 0.15

handled: list[bytes] = []


def handle(headers: Headers, body: bytes, answer: Answer) -> None:
    """Answer with the body: at once, or later where the body says so; or fail."""
    if body == b"failing":
        raise RuntimeError("on purpose")
    assert headers[b"host"] == b"localhost"
    handled.append(body)
    if body == b"at once":
        answer(200, b"", body)
    else:
        asyncio.get_running_loop().call_later(LATE_S, answer, 202, b"x: y\r\n", body)


ROUTE = DirectRoute(
    "/orders",
    frozenset({b"/direct"}),
    handle,
    100,
    0.5,
    lambda answer: answer(413, b"", b"too large"),
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


def aborted(client: socket.socket) -> bytes:
    """Return what came before the connection ended."""
    try:
        return all_of(client)
    except ConnectionResetError:
        return b""


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

    def test_handles_once_what_waits_while_an_offer_comes_behind_it(self, served: Served) -> None:
        """Java's client offers HTTP/2 with each request; nobody takes it."""
        offer = (
            "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
        )
        for _ in range(2):  # The second time with a known head.
            for sent in (
                [post(b"later") + post(b"instead", offer)],
                [post(b"later"), post(b"instead", offer)],
            ):
                handled.clear()
                with connect(served.port) as client:
                    for piece in sent:
                        client.sendall(piece)
                        until(lambda: b"later" in handled, what="the first is being handled")
                    answers = client.recv(65_536)
                    while len(statuses(answers)) < 2:
                        answers += client.recv(65_536)
                assert handled[0] == b"later"
                assert handled.count(b"later") == 1
                assert statuses(answers)[0] == b"202"

    def test_ends_the_connection_of_a_handler_that_fails(self, served: Served) -> None:
        with capture_logs() as logs, connect(served.port) as client:
            for piece in post(b"failing"):
                client.sendall(bytes([piece]))
            assert not aborted(client)
        assert [line["event"] for line in logs] == ["a request's handler failed"]

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


class TestAHeadThatCameBefore:
    """It is not parsed again; whatever differs from it is."""

    def test_means_the_same_with_another_body(self, served: Served) -> None:
        with connect(served.port) as client, connect(served.port) as other:
            for who in (client, client, other, client):
                for body in (b"at once", b"instead"):
                    who.sendall(post(body))
                    assert who.recv(65_536).endswith(body)
        assert handled == [b"at once", b"instead"] * 4

    def test_is_answered_though_that_of_another_fails(self, served: Served) -> None:
        with ExitStack() as stack:
            clients = [stack.enter_context(connect(served.port)) for _ in range(40)]
            clients[0].sendall(post(b"at once"))  # From here on the head is known.
            assert clients[0].recv(65_536).endswith(b"at once")
            for number, client in enumerate(clients):
                client.sendall(post(b"failing" if number % 4 == 1 else b"at once"))
            for number, client in enumerate(clients):
                if number % 4 == 1:
                    assert not aborted(client)
                else:
                    assert client.recv(65_536).endswith(b"at once")

    def test_has_its_body_whatever_pieces_it_comes_in(self, served: Served) -> None:
        with connect(served.port) as client:
            client.sendall(post(b"at once"))
            assert client.recv(65_536).endswith(b"at once")
            request = post(b"instead")
            for cut in (1, 30, len(request) - 7, len(request) - 1):
                client.sendall(request[:cut])
                client.sendall(request[cut:])
                assert client.recv(65_536).endswith(b"instead")
            request = post(b"at once")
            client.sendall(request + request[:-3])
            assert client.recv(65_536).endswith(b"at once")
            client.sendall(request[-3:])
            assert client.recv(65_536).endswith(b"at once")

    def test_is_of_no_use_where_the_length_differs(self, served: Served) -> None:
        with connect(served.port) as client:
            client.sendall(post(b"at once"))
            assert client.recv(65_536).endswith(b"at once")
            client.sendall(post(b"at once") + b"G" + ask("/body")[1:])
            answers = client.recv(65_536)
            while len(statuses(answers)) < 2:
                answers += client.recv(65_536)
            assert statuses(answers) == [b"200", b"200"]

    def test_keeps_the_order_of_answers(self, served: Served) -> None:
        with connect(served.port) as client:
            client.sendall(post(b"at once"))
            assert client.recv(65_536).endswith(b"at once")
            client.sendall(post(b"later.."))
            client.sendall(ask("/body"))
            answers = b""
            while len(statuses(answers)) < 2:
                answers += client.recv(65_536)
            assert statuses(answers) == [b"202", b"200"]

    @pytest.mark.parametrize(
        ("head", "body"),
        [
            (ask("/direct", "POST", "Transfer-Encoding: chunked\r\n"), b"2\r\nab\r\n0\r\n\r\n"),
            (ask("/direct", "POST", "Content-Length: 3\r\n"), b"ab"),
            (ask("/direct", "POST", "Content-Length: 2\r\nIdempotency-Key: k\r\n"), b"ab"),
            (ask("/direct", "POST", f"Content-Length: 2\r\nX: {'x' * 3_000}\r\n"), b"ab"),
        ],
        ids=["chunked", "not whole", "its own key", "long"],
    )
    def test_is_not_remembered_of(self, head: bytes, body: bytes) -> None:
        heads = KnownHeads()
        headers = {
            name.lower(): value
            for name, _, value in (line.partition(b": ") for line in head.split(b"\r\n")[1:-2])
        }
        heads.note(head + body, headers)
        assert heads.find(head + body) is None

    def test_is_forgotten_before_there_are_too_many(self) -> None:
        heads = KnownHeads()
        for number in range(5_000):
            request = ask("/direct", "POST", f"Content-Length: 0\r\nX: {number}\r\n")
            heads.note(request, {b"content-length": b"0"})
            assert heads.find(request) == ({b"content-length": b"0"}, b"")
        remembered = sum(
            heads.find(ask("/direct", "POST", f"Content-Length: 0\r\nX: {n}\r\n")) is not None
            for n in range(5_000)
        )
        assert remembered <= HEADS_MAX
