"""The ways to a customer: the log, which is written at once, and those that take their time."""

import sys
from collections.abc import Sequence
from datetime import datetime
from typing import Protocol, TextIO

import msgspec
from msgspec import UNSET, Struct

from orderstream.contract.envelope import rfc3339
from orderstream.contract.errors import Unavailable
from orderstream.contract.values import Contact
from orderstream.notification.rules import Notice, Result, Skipped
from orderstream.notification.store import Intent
from orderstream.runtime.logs import FIELDS, fixed_fields, trace_of

SEND_TIMEOUT_S = 15.0  # Standard Webhooks: 15 to 30 s.


class Channel(Protocol):
    """Somewhere messages go, one by one, each within some SEND_TIMEOUT_S; from any thread."""

    @property
    def name(self) -> str:
        """The channel's name in the store and for operators; tells no secret."""
        ...

    @property
    def personal(self) -> bool:
        """Whether it goes to the customer, who may have opted out."""
        ...

    @property
    def every_s(self) -> float:
        """The least time between two messages that it can bear."""
        ...

    def send(self, intent: Intent) -> Result:
        """Send it once. A message that is sent again has the same id, to be told by."""
        ...

    def let_go(self) -> None:
        """Close what the thread that asks holds open; others' connections are theirs."""
        ...


class Defaults(Struct, frozen=True):
    """Where to tell those who left no address, and in which language."""

    email: str | None = None
    phone: str | None = None
    locale: str = "en"

    def contact(self, intent: Intent) -> Contact:
        """Return where to tell the customer of this message."""
        said = intent.message.notify
        if said is UNSET:
            said = Contact()
        return Contact(
            said.email or self.email, said.phone or self.phone, said.locale or self.locale
        )


class _Line(Struct, omit_defaults=True, gc=False, rename=lambda name: FIELDS.get(name, name)):
    """What differs from one notice's line to the next."""

    at: str = msgspec.field(name="@timestamp")
    level: str = msgspec.field(name="log.level")
    text: str = msgspec.field(name="message")
    event_id: str
    order_id: str
    topic: str | None = None
    partition: int | None = None
    offset: int | None = None
    trace_id: str | None = None
    span_id: str | None = None


_encode = msgspec.json.Encoder().encode
_FIXED = (
    b","
    + _encode({**fixed_fields("notification"), "log.logger": "orderstream.notices"})[1:]
    + b"\n"
)

NO_EMAIL = Skipped("the order has no e-mail address, and ORDERSTREAM_NOTIFY_EMAIL is not set")
NO_PHONE = Skipped("the order has no phone number, and ORDERSTREAM_NOTIFY_PHONE is not set")


class LogChannel:
    """Writes each notice as one line: a sentence on a terminal, ECS JSON otherwise.

    One write per batch, past the logging library: at thousands of notices a second, a call per
    line costs more than everything else this service does.
    """

    name = "log"

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = out or sys.stdout
        self._human = self._out.isatty()

    def tell(self, notices: Sequence[Notice], now: datetime) -> None:
        """Write them all. Raises Unavailable when none is known to have arrived."""
        at = rfc3339(now)
        if self._human:
            lines = [f"{at} notice   {notice.text}\n" for notice in notices]
        else:
            lines = [_ecs_line(notice, at).decode() for notice in notices]
        try:
            self._out.write("".join(lines))
            self._out.flush()
        except OSError as error:  # The disk is full, or nobody reads any more: no notice's fault.
            raise Unavailable(f"notices cannot be written: {error}") from error


def _ecs_line(notice: Notice, at: str) -> bytes:
    line = _Line(at, "info", notice.text, notice.event_id, notice.order_key)
    if (record := notice.record) is not None:
        line.topic, line.partition, line.offset = (
            record.topic(),
            record.partition(),
            record.offset(),
        )
        line.trace_id, line.span_id = trace_of(record)
    return _encode(line)[:-1] + _FIXED
