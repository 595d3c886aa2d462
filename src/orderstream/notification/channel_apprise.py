"""Everything else that Apprise speaks: SMS, push, chat (https://github.com/caronc/apprise).

`{email}` and `{phone}` in an address stand for the customer's. Its services are called in the
thread that asks, and keep to time limits of their own; `Apprise.notify` would have all channels
share six threads. They say that it worked or that it did not, which is taken as not sent.
"""

import logging
import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, cast
from urllib.parse import quote

import apprise

from orderstream.notification.channels import NO_EMAIL, NO_PHONE, Defaults
from orderstream.notification.rules import NotSent, Result, Sent
from orderstream.notification.store import Intent
from orderstream.notification.templates import BadTemplate, Templates

EMAIL, PHONE = "{email}", "{phone}"
SAMPLES = {EMAIL: "ada@example.com", PHONE: "+15005550006"}


class AppriseChannel:
    """Sends text to one Apprise address."""

    def __init__(self, name: str, url: str, templates: Templates, defaults: Defaults) -> None:
        """Raises ValueError for an address that Apprise does not know; says nothing of it."""
        self.name = name
        self.personal = EMAIL in url or PHONE in url
        self._url = url
        self._templates = templates
        self._defaults = defaults
        self.every_s = float(plugin_of(url).request_rate_per_sec)  # Seconds, whatever its name.

    def send(self, intent: Intent) -> Result:
        """See Channel."""
        contact = self._defaults.contact(intent)
        url = self._url
        for mark, value, missing in (
            (EMAIL, contact.email, NO_EMAIL),
            (PHONE, contact.phone, NO_PHONE),
        ):
            if mark in url:
                if value is None:
                    return missing
                url = url.replace(mark, quote(value, safe=""))
        try:
            said = self._templates.render(intent.message, contact.locale or self._defaults.locale)
        except BadTemplate as error:
            return NotSent(why=str(error), final=True)
        with _warnings() as warned:
            taken = plugin_of(url).notify(
                body=said.text,
                title=said.subject,
                notify_type=apprise.NotifyType.INFO,
                body_format=apprise.NotifyFormat.TEXT,
            )
        return Sent() if taken else NotSent(why="; ".join(warned) or "Apprise says no")

    def let_go(self) -> None:
        """See Channel: nothing is held open."""


def plugin_of(url: str) -> Any:
    """Return what Apprise makes of an address. Raises ValueError, without repeating it."""
    for mark, value in SAMPLES.items():
        url = url.replace(mark, quote(value, safe=""))
    plugin = cast("Any", apprise.Apprise).instantiate(url, suppress_exceptions=True)
    if plugin is None:
        raise ValueError("Apprise does not understand it")
    return plugin


class _Collector(logging.Handler):
    """Keeps what Apprise warns of for the thread that it happens in."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.here = threading.local()

    def emit(self, record: logging.LogRecord) -> None:
        kept: list[str] | None = getattr(self.here, "kept", None)
        if kept is not None:
            kept.append(record.getMessage())


# It says whom it could not reach: that is kept with the message, and never logged.
_collector = _Collector()
_logger = logging.getLogger("apprise")
_logger.addHandler(_collector)
_logger.propagate = False


@contextmanager
def _warnings() -> Generator[list[str]]:
    _collector.here.kept = kept = list[str]()
    try:
        yield kept
    finally:
        _collector.here.kept = None
