"""Apprise to a real server: its JSON service, which posts what an SMS gateway would be sent."""

import socket
import threading
from collections.abc import Callable
from urllib.parse import urlsplit

import pytest

from orderstream.contract.values import Contact
from orderstream.notification.channel_apprise import AppriseChannel
from orderstream.notification.channels import Defaults
from orderstream.notification.rules import Kind, NotSent, Result, Sent, Skipped, message
from orderstream.notification.templates import Templates, sample
from tests.builders import NOON, an_order, reserved
from tests.notification.conftest import DEFAULTS, TEMPLATES, an_intent
from tests.notification.receivers import Gateway, bad_server, hangs_up, says_nothing
from tests.ports import own_port


def send(url: str, contact: Contact | None = None, defaults: Defaults = DEFAULTS) -> Result:
    said = message(reserved(an_order(("MUG", 2))))
    if contact is not None:
        said = type(said)(said.kind, 1, NOON, 42, said.items, notify=contact)
    return AppriseChannel("sms", url, TEMPLATES, defaults).send(an_intent(said=said))


class TestAMessage:
    def test_goes_to_the_customers_number_in_their_language(self, gateway: Gateway) -> None:
        url = f"json://127.0.0.1:{gateway.port}/send/{{phone}}"
        assert send(url, Contact(phone="+905321234567", locale="tr")) == Sent()
        ((path, body),) = gateway.got
        assert path == "/send/+905321234567"
        assert body["title"] == TEMPLATES.render(sample(Kind.CONFIRMED), "tr").subject.replace(
            "100000001", "1"
        )
        assert "2 x MUG" in body["message"]

    def test_cannot_change_where_it_goes(self, gateway: Gateway) -> None:
        url = f"json://127.0.0.1:{gateway.port}/send/{{email}}"
        assert send(url, Contact(email="a/../b?x=1#@127.0.0.1:1")) == Sent()
        ((path, _),) = gateway.got
        assert urlsplit(path).path.startswith("/send/a%2F")

    def test_without_a_number_is_skipped(self) -> None:
        found = send("json://127.0.0.1:1/{phone}", Contact(email="a@b.cc"), Defaults())
        assert isinstance(found, Skipped)
        assert "ORDERSTREAM_NOTIFY_PHONE" in found.why

    def test_that_is_refused_says_why(self, gateway: Gateway) -> None:
        gateway.status = 500
        found = send(f"json://127.0.0.1:{gateway.port}/")
        assert isinstance(found, NotSent)
        assert (found.busy, found.unknown, found.final) == (False, False, False)
        assert "500" in found.why

    @pytest.mark.parametrize("speak", [says_nothing, hangs_up])
    def test_that_is_not_answered_may_have_arrived(
        self, speak: Callable[[socket.socket], None]
    ) -> None:
        with bad_server(speak) as port:
            found = send(f"json://127.0.0.1:{port}/?rto=0.2")
        assert isinstance(found, NotSent)
        assert found.unknown
        assert "onnection error" in found.why

    @pytest.mark.parametrize("host", ["127.0.0.1", "nobody.invalid"])
    def test_that_finds_nobody_has_not_arrived(self, host: str) -> None:
        found = send(f"json://{host}:{own_port()}/")
        assert isinstance(found, NotSent)
        assert not found.unknown
        assert "onnection error" in found.why

    def test_of_one_that_hangs_holds_up_no_other(self, gateway: Gateway) -> None:
        over = threading.Event()

        def hang(_: socket.socket) -> None:
            over.wait(60)

        with bad_server(hang) as port:
            url = f"json://127.0.0.1:{port}/?rto=60"
            stuck = [threading.Thread(target=send, args=(url,), daemon=True) for _ in range(12)]
            for thread in stuck:
                thread.start()
            assert send(f"json://127.0.0.1:{gateway.port}/") == Sent()
            over.set()
        for thread in stuck:
            thread.join(70)


class TestAnAddress:
    def test_tells_whether_it_is_the_customers_and_how_fast_it_may_be_used(self) -> None:
        sms = AppriseChannel(
            "sms",
            "twilio://AC0123456789abcdef0123456789abcdef:0123456789abcdef0123456789abcdef@15005550006/{phone}",
            Templates(),
            DEFAULTS,
        )
        assert sms.personal
        assert sms.every_s > 0
        assert not AppriseChannel("ops", "json://127.0.0.1/", Templates(), DEFAULTS).personal

    def test_that_apprise_does_not_know_is_refused_and_not_repeated(self) -> None:
        with pytest.raises(ValueError, match="does not understand") as refused:
            AppriseChannel("x", "nonsense://secret-token", Templates(), DEFAULTS)
        assert "secret-token" not in str(refused.value)
