"""The channels that customers are told by, as the settings name them.

No message here repeats an address: it may hold a password.
"""

import base64
import binascii
import re
from urllib.parse import urlsplit

from msgspec import Struct

from orderstream.contract.errors import ConfigurationError

LOG = "log"
NOTIFY = "ORDERSTREAM_NOTIFY"
WEBHOOK_URLS = "ORDERSTREAM_WEBHOOK_URLS"
MAIL = ("mailto", "mailtos")
HTTP = ("http", "https")
SECRET_BYTES = range(24, 65)  # Standard Webhooks.
# A comma ends an address only where another begins: addresses may have commas of their own.
_BETWEEN = re.compile(r"\s*,\s*(?=(?:log\s*(?:,|$))|(?:[\w.-]+=)?[a-z][a-z0-9+.-]*://)", re.I)
_NAMED = re.compile(r"(?:(?P<name>[\w.-]+)=)?(?P<url>(?P<scheme>[a-z][a-z0-9+.-]*)://.+)", re.I)
_NAME = re.compile(r"[a-z0-9.-]{1,64}")
_HOST = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?|[0-9a-f:.]+", re.I)


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
    to_log, addresses, faults = _read(notify, NOTIFY)
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
    found = [LOG, *(address.name for address in (*addresses, *hooks))]
    hooked = {hook.name for hook in hooks}
    faults += [
        f"{WEBHOOK_URLS if name in hooked else NOTIFY}: two channels are called {name}: call one"
        " otherwise, as NAME=ADDRESS"
        for name in sorted({name for name in found if found.count(name) > 1})
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
        scheme, url = matched["scheme"].lower(), matched["url"]
        name = matched["name"] or _name_of(scheme, url)
        if scheme in HTTP and not _is_reachable(url):
            faults.append(f"{setting}: number {number} is not https://HOST[:PORT]/PATH")
        elif not _NAME.fullmatch(name):
            faults.append(
                f"{setting}: number {number} needs a name of a-z 0-9 . - (at most 64), as"
                " NAME=ADDRESS"
            )
        else:
            found.append(Address(name, url, scheme))
    return LOG in parts, found, faults


def _name_of(scheme: str, url: str) -> str:
    """Name a channel by its scheme; a webhook by the host that it goes to."""
    if scheme in HTTP:
        return f"webhook-{_parts(url)[0]}"
    return scheme.rstrip("s") if scheme in MAIL else scheme


def _is_reachable(url: str) -> bool:
    """Tell whether there is a host and a port to connect to, and no password that would be lost."""
    host, port = _parts(url)
    labels_fit = all(0 < len(label) < 64 for label in host.split(".")) or ":" in host
    if not _HOST.fullmatch(host) or not labels_fit or port == 0:
        return False
    return (
        "@" not in urlsplit(url).netloc and url.isascii() and url.isprintable() and " " not in url
    )


def _parts(url: str) -> tuple[str, int | None]:
    try:
        parts = urlsplit(url)
        return (parts.hostname or "").lower(), parts.port
    except ValueError:
        return "", 0


def read_secrets(text: str) -> list[bytes]:
    """Read the secrets of webhooks, comma-separated `whsec_...`. Raises ConfigurationError."""
    return [_read_secret(part.strip()) for part in text.split(",")]


def _read_secret(text: str) -> bytes:
    try:
        secret = base64.b64decode(text.removeprefix("whsec_"), validate=True)
    except binascii.Error:
        secret = b""
    if not text.startswith("whsec_") or len(secret) not in SECRET_BYTES:
        least, most = SECRET_BYTES[0], SECRET_BYTES[-1]
        raise ConfigurationError(
            f"ORDERSTREAM_WEBHOOK_SECRET: it is whsec_ and {least} to {most} random bytes in"
            " base64: `orderstream notify secret` makes one"
        )
    return secret
