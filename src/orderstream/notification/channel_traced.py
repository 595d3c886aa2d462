"""A channel whose messages are each sent in a span, which a webhook hands on."""

from msgspec import structs

from orderstream.notification.channels import Channel
from orderstream.notification.rules import NotSent, Result
from orderstream.notification.store import Intent
from orderstream.runtime.tracing import Tracer


class TracedChannel:
    """See Channel. Its spans say nothing of whom a message goes to."""

    def __init__(self, channel: Channel, tracer: Tracer) -> None:
        self._channel = channel
        self._tracer = tracer
        self.name = channel.name
        self.personal = channel.personal
        self.every_s = channel.every_s
        self.let_go = channel.let_go

    def send(self, intent: Intent) -> Result:
        """See Channel."""
        given = intent.message.traceparent
        parent = None if given is None else given.encode()
        if parent is None or not self._tracer.wants(parent):
            return self._channel.send(intent)
        said = {
            "orderstream.channel": self.name,
            "orderstream.event.id": intent.event_id,
            "orderstream.tries": intent.tries,
        }
        span = self._tracer.begin(f"notify {intent.message.kind}", "client", parent, said)
        message = structs.replace(intent.message, traceparent=span.traceparent.decode())
        error: str | None = "_OTHER"
        try:
            result = self._channel.send(structs.replace(intent, message=message))
            error = "not sent" if isinstance(result, NotSent) else None
            return result
        finally:
            span.end(error)
