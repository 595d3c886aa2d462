"""What notification has beside its stage: it sends what the stage wrote down."""

from dataclasses import dataclass

from fastapi import APIRouter

from orderstream.contract.errors import ConfigurationError
from orderstream.notification.api import notice_routes
from orderstream.notification.channel_traced import TracedChannel
from orderstream.notification.channels import Channel, Defaults
from orderstream.notification.configured import channels_of
from orderstream.notification.dispatch import Dispatcher
from orderstream.notification.store_postgres import PostgresNotices
from orderstream.notification.templates import Templates
from orderstream.runtime.channels import read_secrets
from orderstream.runtime.clock import utc_now
from orderstream.runtime.database import Database
from orderstream.runtime.settings import Settings
from orderstream.runtime.tracing import Tracer


@dataclass(frozen=True)
class Sending:
    """What notification has beside its stage: it sends what the stage wrote down."""

    dispatcher: Dispatcher
    routes: APIRouter

    async def ending(self) -> None:
        """Take no more messages: the service is about to end."""
        self.dispatcher.ask_to_stop()


def sending(settings: Settings, database: Database, tracer: Tracer | None = None) -> Sending:
    """Return what sends messages. Raises ConfigurationError listing every channel at fault."""
    notices = PostgresNotices(database)
    templates = Templates(settings.templates)
    faults: list[str] = []
    if settings.templates is not None:
        try:
            templates.check()
        except ConfigurationError as error:
            faults += error.faults
    defaults = Defaults(settings.notify_email, settings.notify_phone, settings.notify_locale)
    secret = settings.webhook_secret
    channels: list[Channel] = []
    try:
        channels = channels_of(
            settings.channels(),
            read_secrets(secret.get_secret_value()) if secret else (),
            templates,
            defaults,
            utc_now,
            allow_private=settings.webhook_allow_private,
        )
    except ConfigurationError as error:
        faults += error.faults
    if faults:
        raise ConfigurationError(*faults)
    if tracer is not None:
        channels = [TracedChannel(channel, tracer) for channel in channels]
    dispatcher = Dispatcher(
        notices,
        channels,
        settings.notify_waits_s,
        at_once=settings.notify_at_once,
        rate=settings.notify_rate,
        worker=settings.worker,
    )
    by_name = {channel.name: channel for channel in channels}
    routes = notice_routes(notices, by_name, templates, utc_now)
    return Sending(dispatcher, routes)
