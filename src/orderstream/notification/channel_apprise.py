"""Everything else that Apprise speaks: SMS, push, chat (https://github.com/caronc/apprise).

`{email}` and `{phone}` in an address stand for the customer's. Its services are called in the
thread that asks, and keep to time limits of their own; `Apprise.notify` would have all channels
share six threads. They say that it worked or that it did not; the latter is taken as not sent,
unless a request of theirs went out (by `requests`, as most do) and no answer came back: then nobody
knows.
"""

import logging
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, cast
from urllib.parse import quote

import apprise
from requests import ConnectionError as NoConnection
from requests import RequestException
from urllib3.exceptions import MaxRetryError

from orderstream.notification.channels import NO_EMAIL, NO_PHONE, SEND_TIMEOUT_S, Defaults
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
        service = plugin_of(url)
        if "socket_read_timeout" not in vars(service):  # No `rto=` in the address.
            # Its own is 4 s, and what is not waited for may be sent twice.
            service.socket_read_timeout = SEND_TIMEOUT_S
        with _heard() as heard:
            taken = service.notify(
                body=said.text,
                title=said.subject,
                notify_type=apprise.NotifyType.INFO,
                body_format=apprise.NotifyFormat.TEXT,
            )
        if taken:
            return Sent()
        return NotSent(why="; ".join(heard.warnings) or "Apprise says no", unknown=heard.no_answer)

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


class _Heard:
    """What Apprise warned of in one try, and whether a request went out that had no answer."""

    def __init__(self) -> None:
        self.warnings: list[str] = []
        self.no_answer = False


class _Collector(logging.Handler):
    """Keeps what Apprise warns of for the thread that it happens in."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.here = threading.local()

    def emit(self, record: logging.LogRecord) -> None:
        heard: _Heard | None = getattr(self.here, "heard", None)
        if heard is not None:
            heard.warnings.append(record.getMessage())
            # Services keep the exception to themselves, but warn while they handle it.
            heard.no_answer |= _may_have_arrived(sys.exception())


def _may_have_arrived(error: BaseException | None) -> bool:
    """Say whether a request that ended so may have been taken; without a connection it was not."""
    if not isinstance(error, RequestException):
        return False
    unconnected = isinstance(error, NoConnection) and isinstance(
        next(iter(error.args), None), MaxRetryError
    )
    return not unconnected


# It says whom it could not reach: that is kept with the message, and never logged.
_collector = _Collector()
_logger = logging.getLogger("apprise")
_logger.addHandler(_collector)
_logger.propagate = False


@contextmanager
def _heard() -> Generator[_Heard]:
    _collector.here.heard = heard = _Heard()
    try:
        yield heard
    finally:
        _collector.here.heard = None
