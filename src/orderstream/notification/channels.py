"""The ways to a customer."""

import sys
from collections.abc import Sequence
from datetime import datetime
from typing import Protocol, TextIO

import msgspec

from orderstream.contract.envelope import rfc3339
from orderstream.contract.errors import Unavailable
from orderstream.notification.rules import Notice


class Channel(Protocol):
    """Somewhere notices go. A notice may be told again after a crash: it keeps its event id."""

    @property
    def name(self) -> str:
        """The channel's name in the store and the settings."""
        ...

    def tell(self, notices: Sequence[Notice], now: datetime) -> None:
        """Hand over the notices. Raises Unavailable when none is known to have arrived."""
        ...


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
        """See Channel."""
        at = rfc3339(now)
        if self._human:
            lines = [f"{at} notice   {notice.text}\n" for notice in notices]
        else:
            lines = [_ecs_line(notice, at) for notice in notices]
        try:
            self._out.write("".join(lines))
            self._out.flush()
        except OSError as error:  # The disk is full, or nobody reads any more: no notice's fault.
            raise Unavailable(f"notices cannot be written: {error}") from error


def _ecs_line(notice: Notice, at: str) -> str:
    line = {
        "@timestamp": at,
        "log.level": "info",
        "message": notice.text,
        "ecs.version": "8.11.0",
        "service.name": "orderstream-notification",
        "event.id": notice.event_id,
        "labels": {"order_id": notice.order_key},
    }
    return msgspec.json.encode(line).decode() + "\n"
