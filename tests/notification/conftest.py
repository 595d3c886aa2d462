from collections.abc import Iterator
from pathlib import Path

import pytest

from orderstream.notification.channels import Defaults
from orderstream.notification.rules import Message, message
from orderstream.notification.store import Intent
from orderstream.notification.templates import Templates
from tests.builders import NOON, an_order, reserved
from tests.notification.receivers import Gateway, Hooks, sms_gateway, web_server
from tests.security.certificates import Certificates

TEMPLATES = Templates()
DEFAULTS = Defaults(email="desk@example.com", phone="+4915112345678")


def an_intent(number: int = 1, said: Message | None = None, channel: str = "mail") -> Intent:
    """Return a message to send: that an order is confirmed, unless told otherwise."""
    said = said or message(reserved(an_order(order_id=number)))
    event = f"{said.order_id}:inventory.reserved"
    return Intent(event, channel, "42", "Order 1 is confirmed.", said, 1, 0, NOON)


@pytest.fixture(scope="package")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates.make(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def trusted(certificates: Certificates, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Have this process trust the tests' authority."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates.authority))
    return certificates.authority


@pytest.fixture
def hooks() -> Iterator[Hooks]:
    with web_server() as hooks:
        yield hooks


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    with sms_gateway() as gateway:
        yield gateway
