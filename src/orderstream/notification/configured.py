"""Makes the channels that the settings name. No message repeats an address, nor a secret."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, cast

from orderstream.contract.errors import ConfigurationError
from orderstream.runtime.channels import MAIL, Address, Named
from orderstream.runtime.clock import Clock

if TYPE_CHECKING:
    from orderstream.notification.channels import Channel, Defaults
    from orderstream.notification.templates import Templates


def channels_of(
    named: Named,
    secrets: Sequence[bytes],
    templates: "Templates",
    defaults: "Defaults",
    clock: Clock,
    *,
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
                allow_private=allow_private,
            )
            for hook in named.webhooks
        ]
    if faults:
        raise ConfigurationError(*faults)
    return channels


def _channel(address: Address, templates: "Templates", defaults: "Defaults") -> "Channel":
    # Apprise is a large library: only who has such a channel pays for it.
    from orderstream.notification.channel_apprise import (
        EMAIL,
        PHONE,
        SAMPLES,
        AppriseChannel,
        plugin_of,
    )

    if address.scheme not in MAIL:
        return AppriseChannel(address.name, address.url, templates, defaults)
    from apprise.plugins.email.base import NotifyEmail

    from orderstream.notification.channel_mail import MailChannel, Server

    plugin = plugin_of(address.url)
    if type(plugin) is not NotifyEmail:
        raise ValueError("Apprise does not read it as mail")
    plugin = cast("Any", plugin)
    to = [str(target) for _, target in plugin.targets]
    sample = SAMPLES[EMAIL]
    if EMAIL in address.url and to != [sample]:
        raise ValueError("to={email} is the customer alone; name the others in a channel of theirs")
    if PHONE in address.url or sample in str(plugin.from_addr):
        raise ValueError("{email} goes into `to`, and {phone} into no mail")
    if not to:
        raise ValueError("`to` has no address that mail could go to")
    if plugin.cc or plugin.bcc:
        raise ValueError("cc and bcc are not supported: name all of them in `to`")
    server = Server(
        host=str(plugin.smtp_host),
        port=int(plugin.port),
        secure=cast("Literal['insecure', 'ssl', 'starttls']", str(plugin.secure_mode)),
        user=plugin.user,
        password=plugin.password,
        verify=bool(plugin.verify_certificate),
        sender_name=str(plugin.from_addr[0] or ""),
        sender=str(plugin.from_addr[1]),
        to=() if EMAIL in address.url else tuple(to),
    )
    return MailChannel(address.name, server, templates, defaults)
