"""What clients do on purpose or by fault, over raw sockets: it costs them, and nobody else."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import count
from time import monotonic
from urllib.parse import urlsplit

import pytest

from tests.orders.service import ITEMS, OrderService
from tests.waiting import until

ORDER = b'{"userId":1,"items":[{"sku":"A","qty":1}]}'
LINE = b"POST /api/orders HTTP/1.1\r\n"
HOST = b"Host: localhost\r\n"
MANY = 500
PROMPTLY_S = 5  # As spec.md section 3 has it, on a machine that others use too.

_keys: Iterator[int] = count(1)


def order(more: bytes = b"") -> bytes:
    """Return a whole request."""
    return LINE + HOST + more + b"Content-Length: %d\r\n\r\n" % len(ORDER) + ORDER


@pytest.fixture
def open_sockets() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


class Client:
    """One connection."""

    def __init__(self, service: OrderService, stack: ExitStack, sent: bytes = b"") -> None:
        at = urlsplit(service.url)
        address = at.hostname or "", at.port or 0
        self._socket = stack.enter_context(socket.create_connection(address, 10))
        self._socket.settimeout(20)
        self.send(sent)

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def send_as_much_as_is_taken(self, piece: bytes, bytes_max: int) -> int:
        """Return how much was sent before the other side ended the connection."""
        sent = 0
        try:
            while sent < bytes_max:
                self._socket.sendall(piece)
                sent += len(piece)
        except OSError:
            pass
        return sent

    def finish(self) -> None:
        """Send no more."""
        self._socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Vanish."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self._socket.close()

    def rest(self) -> bytes:
        """Return everything until the other side ends the connection."""
        found = b""
        try:
            while part := self._socket.recv(65_536):
                found += part
        except ConnectionResetError:
            pass
        return found

    def statuses(self) -> list[int]:
        """Return the statuses of all answers until the end."""
        return [int(part[:3]) for part in self.rest().split(b"HTTP/1.1 ")[1:]]


class TestManyWhoNeverFinish:
    def test_their_headers_are_cut_off_and_others_are_served_meanwhile(
        self, service: OrderService, open_sockets: ExitStack
    ) -> None:
        began = monotonic()
        silent = [Client(service, open_sockets) for _ in range(MANY)]
        slow = [Client(service, open_sockets, LINE + HOST + b"X-") for _ in range(MANY)]
        while monotonic() < began + 8:  # More often than any pause that would count as its end.
            for client in slow:
                client.send(b"a")
            assert service.post(ITEMS).elapsed.total_seconds() < PROMPTLY_S
        assert {client.rest() for client in silent} == {b""}
        assert [client.statuses() for client in slow] == [[408]] * MANY
        assert monotonic() < began + 30

    def test_their_bodies_too(self, service: OrderService, open_sockets: ExitStack) -> None:
        head = LINE + HOST + b"Content-Length: 100\r\n\r\n{"
        slow = [Client(service, open_sockets, head) for _ in range(MANY)]
        assert service.place(ITEMS).status_code == 202
        assert [client.statuses() for client in slow] == [[408]] * MANY

    def test_those_who_vanish_are_forgotten(
        self, service: OrderService, open_sockets: ExitStack
    ) -> None:
        for _ in range(MANY):
            Client(service, open_sockets, LINE + HOST + b"Content-Length: 100\r\n\r\n{").reset()
        assert service.post(ITEMS).elapsed.total_seconds() < PROMPTLY_S

    def test_a_connection_that_is_used_stays(
        self, service: OrderService, open_sockets: ExitStack
    ) -> None:
        client = Client(service, open_sockets, order() * 3 + order(b"Connection: close\r\n"))
        assert client.statuses() == [202] * 4


class TestTooMuch:
    @pytest.mark.parametrize(
        "headers",
        [
            b"X: " + b"x" * 70_000 + b"\r\n",
            b"X" * 70_000 + b": x\r\n",
            b"".join(b"X-%d: x\r\n" % number for number in range(101)),
        ],
        ids=["long-value", "long-name", "many"],
    )
    def test_of_headers_is_refused(
        self, service: OrderService, open_sockets: ExitStack, headers: bytes
    ) -> None:
        client = Client(service, open_sockets, order(headers))
        assert client.statuses() == [431]

    def test_of_a_path_is_refused(self, service: OrderService, open_sockets: ExitStack) -> None:
        head = b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n"
        assert Client(service, open_sockets, head).statuses() in ([431], [400])

    def test_of_what_is_usual_is_not(self, service: OrderService, open_sockets: ExitStack) -> None:
        usual = b"".join(b"X-%d: %s\r\n" % (number, b"x" * 500) for number in range(90))
        client = Client(service, open_sockets, order(usual + b"Connection: close\r\n"))
        assert client.statuses() == [202]

    @pytest.mark.parametrize(
        ("head", "piece"),
        [
            (LINE + HOST + b"X: ", b"x" * 10_000),
            (LINE + HOST, b"X-Another: x\r\n" * 700),
            (LINE + HOST + b"Transfer-Encoding: chunked\r\n\r\n1;", b"x" * 10_000),
            (LINE + HOST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"X-Trailer: x\r\n" * 700),
            (LINE + HOST + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX: ", b"x" * 10_000),
        ],
        ids=["header", "headers", "chunk-extension", "trailers", "trailer"],
    )
    def test_without_an_end_is_cut_off_early(
        self, service: OrderService, open_sockets: ExitStack, head: bytes, piece: bytes
    ) -> None:
        client = Client(service, open_sockets, head)
        most = 32 << 20  # What the two systems between may hold is less.
        assert client.send_as_much_as_is_taken(piece, most) < most
        assert service.place(ITEMS).status_code == 202

    def test_of_a_chunked_body_without_an_end_is_refused_and_then_cut_off(
        self, service: OrderService, open_sockets: ExitStack
    ) -> None:
        head = LINE + HOST + b"Transfer-Encoding: chunked\r\n\r\n"
        client = Client(service, open_sockets, head)
        piece = b"%x\r\n%s\r\n" % (1 << 20, b"x" * (1 << 20))
        assert client.send_as_much_as_is_taken(piece, 200 << 20) < 200 << 20


class TestGarbage:
    @pytest.mark.parametrize(
        "sent",
        [
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"\x00" * 1000 + b"\r\n\r\n",
            b"CONNECT localhost:1 HTTP/1.1\r\nHost: localhost\r\n\r\n",
            b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
            b"GET /\xff HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
            b"GET http://[ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
            LINE + HOST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
            LINE + HOST + b"Content-Length: -1\r\n\r\n",
            LINE + HOST + b"Content-Length: " + b"9" * 30 + b"\r\n\r\n",
            LINE + HOST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            LINE + HOST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        ],
        ids=[
            *("tls", "http2", "nul", "connect", "asterisk", "not-ascii", "no-url"),
            *("two-lengths", "negative", "endless-length", "length-and-chunked", "no-chunk"),
        ],
    )
    def test_is_refused(self, service: OrderService, open_sockets: ExitStack, sent: bytes) -> None:
        (status,) = Client(service, open_sockets, sent).statuses()
        assert 400 <= status < 500

    def test_behind_an_order_does_not_take_its_answer(
        self, service: OrderService, open_sockets: ExitStack
    ) -> None:
        client = Client(service, open_sockets, order() + order() + b"\x00garbage\r\n\r\n")
        assert client.statuses() == [202, 202]

    def test_in_the_body_behind_an_order_does_not_either(
        self, service: OrderService, open_sockets: ExitStack
    ) -> None:
        bad = LINE + HOST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n"
        assert Client(service, open_sockets, order() + bad).statuses() == [202]

    @pytest.mark.parametrize("ends", ["finish", "reset"])
    def test_an_order_whose_body_is_cut_short_is_none(
        self, service: OrderService, open_sockets: ExitStack, ends: str
    ) -> None:
        order_id = f"hostile-{next(_keys)}"
        whole = b'{"userId":1,"orderId":"%s","items":[{"sku":"A","qty":1}]}' % order_id.encode()
        head = LINE + HOST + b"Transfer-Encoding: chunked\r\n\r\n"
        client = Client(service, open_sockets, head + b"%x\r\n%s\r\n" % (len(whole), whole))
        getattr(client, ends)()
        assert service.place(ITEMS | {"orderId": "after-" + order_id}).status_code == 202
        until(lambda: service.records("after-" + order_id), what="the order behind it is there")
        assert service.records(order_id) == []

    def test_an_offer_of_http2_is_passed_over_as_often_as_it_comes(
        self, service: OrderService, open_sockets: ExitStack
    ) -> None:
        offer = b"Connection: Upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: AAM\r\n"
        sent = order(offer) * 3 + order(b"Connection: close\r\n")
        assert Client(service, open_sockets, sent).statuses() == [202] * 4

    def test_an_offer_with_a_chunked_body_too(
        self, service: OrderService, open_sockets: ExitStack
    ) -> None:
        offer = b"Connection: Upgrade\r\nUpgrade: h2c\r\nTransfer-Encoding: chunked\r\n\r\n"
        body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(ORDER), ORDER)
        sent = LINE + HOST + offer + body + order(b"Connection: close\r\n")
        assert Client(service, open_sockets, sent).statuses() == [202] * 2
