"""The channels that the settings name. No message repeats an address: it may hold a password."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, cast
from urllib.parse import urlsplit

from msgspec import Struct

from orderstream.contract.errors import ConfigurationError, Malformed
from orderstream.runtime.clock import Clock

if TYPE_CHECKING:
    from orderstream.notification.channels import Channel, Defaults
    from orderstream.notification.templates import Templates

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
        f"two channels are called {name}: call one otherwise, as NAME=ADDRESS"
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
        found.append(Address(matched["name"] or _name_of(scheme, url), url, scheme))
    return LOG in parts, found, faults


def channels_of(
    named: Named,
    secrets: Sequence[bytes],
    templates: "Templates",
    defaults: "Defaults",
    clock: Clock,
    *,
    at_once: int,
    allow_private: bool,
) -> "list[Channel]":
    """Make the channels. Raises ConfigurationError listing every address at fault, by its name."""
    faults: list[str] = []
    channels: list[Channel] = []
    for address in named.addresses:
        try:
            channels.append(_channel(address, templates, defaults))
        except ValueError as error:
            faults.append(f"ORDERSTREAM_NOTIFY: {address.name}: {error}")
    if named.webhooks:
        from orderstream.notification.channel_webhook import WebhookChannel

        channels += [
            WebhookChannel(
                hook.name,
                hook.url,
                secrets,
                clock,
                connections=at_once,
                allow_private=allow_private,
            )
            for hook in named.webhooks
        ]
    if faults:
        raise ConfigurationError(*faults)
    return channels


def _channel(address: Address, templates: "Templates", defaults: "Defaults") -> "Channel":
    # Apprise is a large library: only who has such a channel pays for it.
    from orderstream.notification.channel_apprise import EMAIL, AppriseChannel, plugin_of

    if address.scheme not in MAIL:
        return AppriseChannel(address.name, address.url, templates, defaults)
    from apprise.plugins.email.base import NotifyEmail

    from orderstream.notification.channel_mail import MailChannel, Server

    plugin = plugin_of(address.url)
    if type(plugin) is not NotifyEmail:
        raise ValueError("Apprise does not read it as mail")
    plugin = cast("Any", plugin)
    fixed = () if EMAIL in address.url else tuple(str(address) for _, address in plugin.targets)
    server = Server(
        host=str(plugin.smtp_host),
        port=int(plugin.port),
        secure=cast("Literal['insecure', 'ssl', 'starttls']", str(plugin.secure_mode)),
        user=plugin.user,
        password=plugin.password,
        verify=bool(plugin.verify_certificate),
        sender_name=str(plugin.from_addr[0] or ""),
        sender=str(plugin.from_addr[1]),
        to=fixed,
    )
    return MailChannel(address.name, server, templates, defaults)


def secrets_of(text: str) -> list[bytes]:
    """Read the secrets of webhooks, comma-separated. Raises ConfigurationError."""
    from orderstream.notification.channel_webhook import read_secret

    try:
        return [read_secret(part.strip()) for part in text.split(",")]
    except Malformed as error:
        raise ConfigurationError(f"ORDERSTREAM_WEBHOOK_SECRET: {error}") from None


def _name_of(scheme: str, url: str) -> str:
    """Name a channel by its scheme; a webhook by the host that it goes to."""
    if scheme in HTTP:
        return f"webhook-{(urlsplit(url).hostname or '').lower()}"
    return scheme.rstrip("s") if scheme in MAIL else scheme
