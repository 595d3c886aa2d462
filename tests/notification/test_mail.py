"""Mail to a real server, with TLS and sign-in, and to servers at fault."""

import socket
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from orderstream.contract.values import Contact
from orderstream.notification.channel_mail import MailChannel, Server
from orderstream.notification.channels import Defaults
from orderstream.notification.rules import Message, NotSent, Result, Sent, Skipped, message
from orderstream.notification.store import Intent
from tests.builders import NOON, an_order, rejected
from tests.notification import receivers
from tests.notification.conftest import DEFAULTS, TEMPLATES, an_intent
from tests.notification.receivers import PASSWORD, USER, Mailbox, bad_server, mail_server
from tests.ports import own_port
from tests.security.certificates import Certificates

PORT = own_port()


def server(port: int = PORT, **more: Any) -> Server:
    facts: dict[str, Any] = {
        "secure": "insecure",
        "user": None,
        "password": None,
        "verify": True,
        "sender_name": "Müllers Läden",
        "sender": "shop@example.com",
    }
    return Server("127.0.0.1", port, **(facts | more))


def send(intent: Intent, to: Server | None = None, defaults: Defaults = DEFAULTS) -> Result:
    with opened(to or server(), defaults) as channel:
        return channel.send(intent)


@contextmanager
def opened(to: Server, defaults: Defaults = DEFAULTS) -> Generator[MailChannel]:
    channel = MailChannel("mail", to, TEMPLATES, defaults)
    try:
        yield channel
    finally:
        channel.let_go()


def said_to(contact: Contact, number: int = 1) -> Message:
    order = an_order(("<b>MUG</b>", 1), order_id=number)
    return Message(
        message(rejected(order, "<b>MUG</b>")).kind,
        number,
        NOON,
        42,
        order.items,
        "OUT_OF_STOCK",
        ("<b>MUG</b>",),
        contact,
    )


@pytest.fixture
def box() -> Iterator[Mailbox]:
    with mail_server(PORT) as box:
        yield box


class TestAMail:
    def test_has_text_and_html_in_the_customers_language(self, box: Mailbox) -> None:
        ada = Contact(email="ada@example.com", locale="ru-RU")
        assert send(an_intent(said=said_to(ada))) == Sent()
        (mail,) = box.mails
        assert (mail["To"], mail["Content-Language"]) == ("ada@example.com", "ru")
        assert str(mail["From"]) == "Müllers Läden <shop@example.com>"
        assert mail["Subject"] == "Заказ 1 выполнить не удалось"
        plain, html = (cast("Any", part).get_content() for part in mail.iter_parts())
        assert "Недостаточно на складе: <b>MUG</b>" in plain
        assert "&lt;b&gt;MUG&lt;/b&gt;" in html
        assert "<b>" not in html

    def test_goes_to_the_desk_where_the_order_names_nobody(self, box: Mailbox) -> None:
        assert send(an_intent()) == Sent()
        assert box.mails[0]["To"] == "desk@example.com"

    def test_without_any_address_is_skipped(self) -> None:
        found = send(an_intent(), defaults=Defaults())
        assert isinstance(found, Skipped)
        assert "ORDERSTREAM_NOTIFY_EMAIL" in found.why

    def test_has_the_same_id_each_time_and_another_for_another_event(self, box: Mailbox) -> None:
        for intent in (an_intent(1), an_intent(1), an_intent(2)):
            assert send(intent) == Sent()
        assert sorted(box.ids.values()) == [1, 2]
        assert all(name.endswith("@example.com>") for name in box.ids)

    def test_goes_to_fixed_addresses_whatever_the_order_says(self, box: Mailbox) -> None:
        fixed = server(to=("a@example.com", "b@example.com"))
        assert send(an_intent(said=said_to(Contact(email="ada@example.com"))), fixed) == Sent()
        assert box.mails[0]["To"] == "a@example.com, b@example.com"

    def test_whose_address_would_break_a_header_is_given_up(self, box: Mailbox) -> None:
        evil = Contact(email="a@b.cc\r\nBcc: eve@example.com")  # As another program may write it.
        found = send(an_intent(said=said_to(evil)))
        assert isinstance(found, NotSent)
        assert found.final
        assert box.mails == []

    def test_one_connection_carries_many(self, box: Mailbox) -> None:
        with opened(server()) as channel:
            results = [channel.send(an_intent(number)) for number in range(250)]
        assert set(results) == {Sent()}
        assert len(box.ids) == 250


class TestAServerWithTlsAndSignIn:
    @pytest.mark.usefixtures("trusted")
    def test_takes_mail_of_who_signs_in(self, certificates: Certificates) -> None:
        with mail_server(PORT, certificates) as box:
            to = server(secure="starttls", user=USER, password=PASSWORD)
            assert send(an_intent(), to) == Sent()
            assert len(box.mails) == 1

    @pytest.mark.usefixtures("trusted")
    def test_refuses_another_password_and_the_message_waits(
        self, certificates: Certificates
    ) -> None:
        with mail_server(PORT, certificates):
            to = server(secure="starttls", user=USER, password="wrong-password")
            found = send(an_intent(), to)
        assert isinstance(found, NotSent)
        assert (found.unknown, found.final, found.busy) == (False, False, True)
        assert "535" in found.why
        assert "wrong-password" not in found.why

    def test_that_cannot_prove_who_it_is_gets_no_password(self, certificates: Certificates) -> None:
        with mail_server(PORT, certificates) as box:
            found = send(an_intent(), server(secure="starttls", user=USER, password=PASSWORD))
        assert isinstance(found, NotSent)
        assert "certificate" in found.why.lower()
        assert box.mails == []


class TestAServerAtFault:
    def test_that_is_away_has_not_got_it(self) -> None:
        with bad_server(receivers.hangs_up) as port:
            pass
        found = send(an_intent(), server(port))
        assert isinstance(found, NotSent)
        assert (found.unknown, found.busy, found.final) == (False, True, False)

    @pytest.mark.parametrize(
        ("said", "final"), [("451 try later", False), ("550 no such user", True)]
    )
    def test_that_refuses_for_now_or_for_good(self, box: Mailbox, said: str, final: bool) -> None:
        box.answer = lambda _: said
        found = send(an_intent())
        assert isinstance(found, NotSent)
        assert (found.final, found.unknown) == (final, False)
        assert said in found.why

    def test_a_refusal_leaves_the_connection_good_for_the_next(self, box: Mailbox) -> None:
        box.refuses_recipient = lambda to: "550 unknown" if to.startswith("no") else None
        with opened(server()) as channel:
            refused = channel.send(an_intent(1, said_to(Contact(email="no@example.com"))))
            assert isinstance(refused, NotSent)
            assert refused.final
            assert channel.send(an_intent(2)) == Sent()

    def test_that_takes_its_time_for_its_last_answer_is_waited_for(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("orderstream.notification.channel_mail.SEND_TIMEOUT_S", 0.3)
        with bad_server(_takes_its_time) as port:
            assert send(an_intent(), server(port)) == Sent()

    def test_a_password_that_cannot_be_said_is_told(
        self, certificates: Certificates, trusted: Path
    ) -> None:
        del trusted
        with mail_server(PORT, certificates):
            found = send(an_intent(), server(secure="starttls", user="ada", password="pässword"))
        assert isinstance(found, NotSent)
        assert not found.unknown
        assert "pässword" not in found.why

    def test_that_hangs_up_behind_the_last_dot_may_have_it(self) -> None:
        found = send_to(_takes_all_and_hangs_up)
        assert (found.unknown, found.busy) == (True, True)

    def test_that_hangs_up_before_it_has_not(self) -> None:
        assert not send_to(_hangs_up_at_once).unknown

    def test_that_says_nothing_is_left_after_a_while(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("orderstream.notification.channel_mail.SEND_TIMEOUT_S", 0.2)
        found = send_to(receivers.says_nothing)
        assert (found.unknown, found.busy) == (False, True)


def send_to(speak: Any) -> NotSent:
    with bad_server(speak) as port:
        found = send(an_intent(), server(port))
    assert isinstance(found, NotSent)
    return found


def _takes_its_time(connection: socket.socket) -> None:
    _takes_all(connection)
    time.sleep(0.8)
    connection.sendall(b"250 kept\r\n")
    connection.recv(1000)


def _takes_all_and_hangs_up(connection: socket.socket) -> None:
    _takes_all(connection)
    connection.shutdown(socket.SHUT_RDWR)


def _takes_all(connection: socket.socket) -> None:
    connection.sendall(b"220 test\r\n")
    lines = connection.makefile("rb")
    in_data = False
    for line in lines:
        if in_data:
            if line == b".\r\n":
                break
        elif line.upper().startswith(b"DATA"):
            in_data = True
            connection.sendall(b"354 go on\r\n")
        else:
            connection.sendall(b"250 ok\r\n")


def _hangs_up_at_once(connection: socket.socket) -> None:
    connection.sendall(b"220 test\r\n")
    connection.recv(1000)
    connection.shutdown(socket.SHUT_RDWR)
