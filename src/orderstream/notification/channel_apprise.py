"""Everything else that Apprise speaks: SMS, push, chat (https://github.com/caronc/apprise).

`{email}` and `{phone}` in an address stand for the customer's. What Apprise says has failed is
taken as not sent; what has not come back in time may have been.
"""

from typing import Any, cast
from urllib.parse import quote

import apprise

from orderstream.notification.channels import NO_EMAIL, NO_PHONE, SEND_TIMEOUT_S, Defaults
from orderstream.notification.rules import NotSent, Result, Sent
from orderstream.notification.store import Intent
from orderstream.notification.templates import BadTemplate, Templates

EMAIL, PHONE = "{email}", "{phone}"
_SAMPLES = {EMAIL: "ada@example.com", PHONE: "+15005550006"}


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
        server = cast("Any", apprise.Apprise())
        server.add(url)
        outcome = server.notify(
            body=said.text,
            title=said.subject,
            body_format=apprise.NotifyFormat.TEXT,
            timeout=SEND_TIMEOUT_S,
        )
        if outcome.status == apprise.AppriseResultStatus.SUCCESS:
            return Sent()
        late = outcome.status == apprise.AppriseResultStatus.TIMEOUT
        why = "it took too long" if late else "; ".join(_warnings(outcome)) or "Apprise says no"
        return NotSent(why=why, unknown=late, busy=True)

    def close(self) -> None:
        """See Channel: Apprise keeps no connections."""


def plugin_of(url: str) -> Any:
    """Return what Apprise makes of an address. Raises ValueError, without repeating it."""
    for mark, value in _SAMPLES.items():
        url = url.replace(mark, quote(value, safe=""))
    plugin = cast("Any", apprise.Apprise).instantiate(url, suppress_exceptions=True)
    if plugin is None:
        raise ValueError("Apprise does not understand it")
    return plugin


def _warnings(outcome: Any) -> list[str]:
    return [entry.message for result in outcome.results for entry in result.logs()]
