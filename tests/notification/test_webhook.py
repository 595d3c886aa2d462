"""Webhooks to a real server, which verifies them by the reference library, and to bad ones."""

import socket
import ssl
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from msgspec import structs

from orderstream.contract.errors import ConfigurationError
from orderstream.contract.values import Contact
from orderstream.notification.channel_webhook import (
    WebhookChannel,
    is_public,
    payload,
    retry_after_s,
)
from orderstream.notification.rules import Kind, NotSent, Result, Sent, message
from orderstream.notification.store import Intent
from orderstream.runtime.channels import read_secrets
from orderstream.runtime.clock import utc_now
from tests.builders import NOON, an_order, rejected
from tests.notification import receivers
from tests.notification.conftest import an_intent
from tests.notification.receivers import SECRET, Hooks, bad_server, web_server
from tests.security.certificates import Certificates

OTHER = "whsec_" + "A" * 32


def channel(address: str, *secrets: str, allow_private: bool = True, **more: Any) -> WebhookChannel:
    keys = read_secrets(",".join(secrets or (SECRET,)))
    return WebhookChannel("hook", address, keys, utc_now, allow_private=allow_private, **more)


def send(address: str, intent: Intent | None = None, **more: Any) -> Result:
    with opened(address, **more) as hook:
        return hook.send(intent or an_intent())


@contextmanager
def opened(address: str, *secrets: str, **more: Any) -> Generator[WebhookChannel]:
    hook = channel(address, *secrets, **more)
    try:
        yield hook
    finally:
        hook.let_go()


def not_sent(address: str, **more: Any) -> NotSent:
    found = send(address, **more)
    assert isinstance(found, NotSent)
    return found


class TestAWebhook:
    def test_is_signed_as_the_reference_library_verifies(self, hooks: Hooks) -> None:
        assert send(hooks.address) == Sent()
        assert hooks.faults == []
        assert hooks.got[0]["type"] == "order.confirmed"

    def test_says_what_happened_and_not_where_the_customer_is(self) -> None:
        order = an_order(("MUG", 2), order_id="ä/1", user_id=7)
        event = rejected(order, "MUG")
        said = message(event)
        body = payload("ä/1:inventory.rejected", said)
        assert body.decode() == (
            '{"type":"order.rejected","timestamp":"2026-11-21T12:00:00.000Z","data":'
            '{"eventId":"ä/1:inventory.rejected","orderId":"ä/1","status":"REJECTED","userId":7,'
            '"items":[{"sku":"MUG","qty":2}],"reason":"OUT_OF_STOCK","short":["MUG"]}}'
        )

    def test_has_one_id_each_time_and_no_address_of_the_customer(self, hooks: Hooks) -> None:
        said = message(rejected(an_order(), "MUG"))
        told = an_intent(
            said=type(said)(Kind.REJECTED, "ä\n1", NOON, notify=Contact(email="ada@example.com"))
        )
        assert send(hooks.address, told) == send(hooks.address, told) == Sent()
        assert list(hooks.ids.values()) == [2]
        assert "ada@" not in str(hooks.got)

    def test_carries_the_trace_of_its_order(self, hooks: Hooks) -> None:
        said = message(rejected(an_order(), "MUG"))
        trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
        for one in (said, structs.replace(said, traceparent=trace)):
            assert send(hooks.address, an_intent(said=one)) == Sent()
        assert [headers.get("traceparent") for headers in hooks.heads] == [None, trace]
        assert trace not in str(hooks.got)

    def test_is_signed_with_both_secrets_while_one_is_replaced(self, hooks: Hooks) -> None:
        with opened(hooks.address, OTHER, SECRET) as hook:
            assert hook.send(an_intent()) == Sent()
        assert hooks.faults == []

    def test_with_another_secret_is_refused(self, hooks: Hooks) -> None:
        with opened(hooks.address, OTHER) as hook:
            assert isinstance(hook.send(an_intent()), NotSent)
        assert len(hooks.faults) == 1

    @pytest.mark.usefixtures("trusted")
    def test_goes_over_tls_to_who_can_prove_it(self, certificates: Certificates) -> None:
        with web_server(certificate=certificates) as hooks:
            assert send(hooks.address, ssl_context=ssl.create_default_context()) == Sent()
            foreign = ssl.create_default_context(cafile=str(certificates.foreign_authority))
            found = not_sent(hooks.address, ssl_context=foreign)
        assert "certificate" in found.why.lower()
        assert not found.unknown
        assert len(hooks.got) == 1


class TestAnAnswer:
    @pytest.mark.parametrize(
        ("status", "busy"), [(301, False), (400, False), (500, False), (502, True), (503, True)]
    )
    def test_that_is_no_success_has_it_sent_again(
        self, hooks: Hooks, status: int, busy: bool
    ) -> None:
        elsewhere = {"location": hooks.address}
        hooks.answer = lambda _: (status, elsewhere)
        found = not_sent(hooks.address)
        assert (found.busy, found.unknown, found.final, found.gone) == (busy, False, False, False)
        assert sum(hooks.attempts.values()) == 1  # A redirect is not followed.

    def test_of_410_is_for_good(self, hooks: Hooks) -> None:
        hooks.answer = lambda _: (410, {})
        assert not_sent(hooks.address).gone

    def test_that_says_when_to_come_back_is_believed(self, hooks: Hooks) -> None:
        hooks.answer = lambda _: (429, {"Retry-After": "77"})
        found = not_sent(hooks.address)
        assert (found.busy, found.after_s) == (True, 77)

    @pytest.mark.parametrize(
        ("said", "seconds"),
        [
            (b"5", 5),
            (b"Sat, 21 Nov 2026 12:00:30 GMT", 30),
            (b"Sat, 21 Nov 2026 11:00:00 GMT", 0),
            (b"99999999999", 86_400),
            (b"soon", None),
            (b"-5", None),
            (b"\xb2", None),
            (b"Mon, 01 Jan 99999999999999999999 00:00:00 GMT", None),
            (None, None),
        ],
    )
    def test_says_when_in_seconds_or_as_a_date(
        self, said: bytes | None, seconds: float | None
    ) -> None:
        assert retry_after_s(said, NOON) == seconds

    @pytest.mark.parametrize("status", [200, 410])
    def test_counts_by_its_status_whatever_becomes_of_its_body(self, status: int) -> None:
        def speak(connection: socket.socket) -> None:
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 %d X\r\nContent-Length: 99\r\n\r\nhalf" % status)
            connection.shutdown(socket.SHUT_RDWR)

        with bad_server(speak) as port:
            found = send(f"http://127.0.0.1:{port}/")
        assert found == Sent() if status == 200 else isinstance(found, NotSent) and found.gone

    def test_that_breaks_off_may_have_been_a_success(self, hooks: Hooks) -> None:
        hooks.answer = lambda _: (0, {})
        found = not_sent(hooks.address)
        assert (found.unknown, found.busy) == (True, True)


class TestAServerAtFault:
    def test_that_is_away_has_not_got_it(self) -> None:
        with bad_server(receivers.hangs_up) as port:
            pass
        found = not_sent(f"http://127.0.0.1:{port}/")
        assert (found.unknown, found.busy) == (False, True)

    @pytest.mark.parametrize("speak", [receivers.says_nothing, receivers.drips])
    def test_that_never_comes_to_an_end_is_left_in_time(
        self, speak: Callable[[socket.socket], None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("orderstream.notification.channel_webhook.SEND_TIMEOUT_S", 0.4)
        with bad_server(speak) as port:
            found = not_sent(f"http://127.0.0.1:{port}/")
        assert (found.unknown, found.busy) == (True, True)

    def test_that_hangs_up_may_have_it(self) -> None:
        with bad_server(receivers.hangs_up) as port:
            assert not_sent(f"http://127.0.0.1:{port}/").unknown


class TestAPrivateAddress:
    @pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "0.0.0.0", "2130706433"])
    def test_is_refused_before_anything_is_sent(self, host: str, hooks: Hooks) -> None:
        port = hooks.address.rpartition(":")[2]
        found = not_sent(f"http://{host}:{port}", allow_private=False)
        assert found.final or "connecting" in found.why
        assert hooks.attempts == {}

    @pytest.mark.parametrize(
        "address",
        [
            *("127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "0.0.0.0"),
            *("100.64.0.1", "224.0.0.1", "255.255.255.255", "::1", "fe80::1%eth0", "fc00::1"),
            *(
                "::ffff:127.0.0.1",
                "::ffff:10.0.0.1",
                "2002:7f00:1::",
                "64:ff9b::10.0.0.1",
                "ff02::1",
            ),
        ],
    )
    def test_is_known_in_every_disguise(self, address: str) -> None:
        assert not is_public(address)

    @pytest.mark.parametrize(
        "address",
        [
            *("fec0::1", "64:ff9b:1::a00:1", "::127.0.0.1", "::ffff:0:127.0.0.1", "3fff::1"),
            *("5f00::1", "2001:db8::1", "100::1"),
        ],
    )
    def test_nor_is_one_that_was_set_aside(self, address: str) -> None:
        assert not is_public(address)

    @pytest.mark.parametrize("address", ["93.184.215.14", "2606:4700::1111", "64:ff9b::8.8.8.8"])
    def test_a_public_one_is_none(self, address: str) -> None:
        assert is_public(address)

    def test_is_looked_at_when_the_connection_is_made(
        self, hooks: Hooks, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        port = int(hooks.address.split(":")[2].partition("/")[0])
        asked: list[str] = []

        def rebinding(host: str, *_: Any, **__: Any) -> list[Any]:
            asked.append(host)
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

        monkeypatch.setattr("socket.getaddrinfo", rebinding)
        found = not_sent(f"http://shop.example.com:{port}/", allow_private=False)
        assert found.final
        assert "ORDERSTREAM_WEBHOOK_ALLOW_PRIVATE" in found.why
        assert (asked, hooks.attempts) == (["shop.example.com"], {})


class TestASecret:
    def test_is_bytes_in_base64(self) -> None:
        assert [len(key) for key in read_secrets(f"{SECRET}, {OTHER}")] == [24, 24]

    @pytest.mark.parametrize("text", ["", "whsec_", "whsec_AAAA", "AAAA" * 8, "whsec_!!!!" * 8])
    def test_that_is_none_is_refused_and_not_repeated(self, text: str) -> None:
        with pytest.raises(ConfigurationError) as refused:
            read_secrets(text)
        assert text.removeprefix("whsec_") in ("", "AAAA") or text not in str(refused.value)


def test_a_date_without_a_zone_is_utc() -> None:
    assert (
        retry_after_s(b"Sat, 21 Nov 2026 12:00:30 -0000", datetime(2026, 11, 21, 12, tzinfo=UTC))
        == 30
    )
