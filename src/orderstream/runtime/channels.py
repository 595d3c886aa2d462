"""The channels that customers are told by, as the settings name them.

No message here repeats an address: it may hold a password.
"""

import re
from urllib.parse import urlsplit

from msgspec import Struct

from orderstream.contract.errors import ConfigurationError

LOG = "log"
WEBHOOK_URLS = "ORDERSTREAM_WEBHOOK_URLS"
MAIL = ("mailto", "mailtos")
HTTP = ("http", "https")
# A comma ends an address only where another begins: addresses may have commas of their own.
_BETWEEN = re.compile(r"\s*,\s*(?=(?:log\s*(?:,|$))|(?:[a-z0-9.-]+=)?[a-z][a-z0-9+.-]*://)")
_NAMED = re.compile(r"(?:(?P<name>[a-z0-9.-]{1,64})=)?(?P<url>(?P<scheme>[a-z][a-z0-9+.-]*)://.+)")


class Address(Struct, frozen=True):
    """Where a channel goes, and what it is called."""

    name: str
    url: str
    scheme: str


class Named(Struct, frozen=True):
    """What the settings name: whether the log is written, Apprise's addresses, and webhooks."""

    to_log: bool
    addresses: tuple[Address, ...] = ()
    webhooks: tuple[Address, ...] = ()

    @property
    def names(self) -> list[str]:
        """The channels that messages are sent through."""
        return [address.name for address in (*self.addresses, *self.webhooks)]


def read_named(notify: str, webhooks: str | None) -> Named:
    """Read the lists of addresses. Raises ConfigurationError listing what is wrong."""
    to_log, addresses, faults = _read(notify, "ORDERSTREAM_NOTIFY")
    hooks: list[Address] = []
    if webhooks is not None:
        is_log, hooks, wrong = _read(webhooks, WEBHOOK_URLS)
        faults += wrong
        if is_log:
            faults.append(f"{WEBHOOK_URLS}: `log` names no address of a webhook")
        faults += [
            f"{WEBHOOK_URLS}: {hook.name} is not http:// or https://"
            for hook in hooks
            if hook.scheme not in HTTP
        ]
    found = [address.name for address in (*addresses, *hooks)]
    faults += [
        f"ORDERSTREAM_NOTIFY: two channels are called {name}: call one otherwise, as NAME=ADDRESS"
        for name in sorted({name for name in found if found.count(name) > 1} | {LOG} & {*found})
    ]
    if faults:
        raise ConfigurationError(*faults)
    return Named(to_log, tuple(addresses), tuple(hooks))


def _read(text: str, setting: str) -> tuple[bool, list[Address], list[str]]:
    faults: list[str] = []
    found: list[Address] = []
    parts = [part.strip() for part in _BETWEEN.split(text) if part.strip()]
    for number, part in enumerate(parts, 1):
        if part == LOG:
            continue
        matched = _NAMED.fullmatch(part)
        if matched is None:
            faults.append(f"{setting}: number {number} is neither `log` nor NAME=SCHEME://...")
            continue
        scheme, url = matched["scheme"], matched["url"]
        try:
            found.append(Address(matched["name"] or _name_of(scheme, url), url, scheme))
        except ValueError:
            faults.append(f"{setting}: number {number} is no address that can be read")
    return LOG in parts, found, faults


def _name_of(scheme: str, url: str) -> str:
    """Name a channel by its scheme; a webhook by the host that it goes to."""
    if scheme in HTTP:
        return f"webhook-{(urlsplit(url).hostname or '').lower()}"
    return scheme.rstrip("s") if scheme in MAIL else scheme
