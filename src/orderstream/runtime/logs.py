"""Logs: ECS JSON, one line each, or sentences on a terminal; docs/observability.md has the fields.

What we say and what libraries say goes through the standard library's loggers, whose levels can be
changed while a service runs (levels.py). No line at INFO or above has a payload or a contact in it:
of an exception that is not ours, whose words may quote a record, the type and the stack are told.
"""

import logging
import os
import re
import sys
import traceback
from collections.abc import Callable, MutableMapping
from typing import Any, TextIO

import msgspec
import structlog
from structlog.stdlib import ProcessorFormatter

from orderstream import __version__
from orderstream.contract.envelope import context_of
from orderstream.contract.errors import Malformed, OrderstreamError
from orderstream.runtime.log_repeats import REPEATS_MAX, Repeats
from orderstream.runtime.stage import Record

ECS_VERSION = "8.11.0"
OURS = "orderstream"
WITHHELD = "(not told: it may quote what it was given; DEBUG for this logger tells it)"

# What the code says, and its field: ECS where it has one, Filebeat's where that has one.
FIELDS = {
    "trace_id": "trace.id",
    "span_id": "span.id",
    "event_id": "event.id",
    "order_id": "orderstream.order_id",
    "topic": "kafka.topic",
    "partition": "kafka.partition",
    "offset": "kafka.offset",
    "suppressed": "orderstream.suppressed",
    "error_type": "error.type",
    "error_message": "error.message",
    "exception": "error.stack_trace",
}
_IDS = frozenset({"trace_id", "span_id", "event_id", "order_id", "topic", "timestamp", "logger"})
_ORDER_ID_LENGTH_MAX = 200
_LABEL_LENGTH_MAX = 1_000
_STACK_LENGTH_MAX = 16_000
_CAUSES_MAX = 8

_MAIL = re.compile(r"[\w.%+-]+@[\w-]+(?:\.[\w-]+)*")
_PHONE = re.compile(r"\+\d[\d ().-]{5,}\d")

_Event = MutableMapping[str, Any]


def configure_logs(
    service: str,
    level: str,
    *,
    repeats_max: int = REPEATS_MAX,
    human: bool | None = None,
    out: TextIO | None = None,
) -> None:
    """Log for people on a terminal, as ECS JSON otherwise, one line each, to standard output.

    `repeats_max` is how often a minute a logger says the same (log_repeats.py); 0: always.
    """
    to = out or sys.stdout
    terminal = to.isatty()
    shown: list[Any] = (
        [_for_people, structlog.dev.ConsoleRenderer(colors=terminal)]
        if (terminal if human is None else human)
        else [_ecs(service), structlog.processors.JSONRenderer(default=str)]
    )
    alike: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _private,
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *alike,
            ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = _Lines(to, repeats_max)
    handler.setFormatter(
        ProcessorFormatter(
            foreign_pre_chain=alike, processors=[ProcessorFormatter.remove_processors_meta, *shown]
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.getLogger(OURS).setLevel(level)
    # What the pool says of a lost connection is said again, once, by whoever needed it.
    logging.getLogger("psycopg.pool").setLevel(logging.CRITICAL)


def about(record: Record) -> dict[str, Any]:
    """Return what each line about a record says: its order, its place on the log, its trace."""
    said = place_of(record)
    if (key := record.key()) is not None:
        said["order_id"] = key.decode(errors="replace")[:_ORDER_ID_LENGTH_MAX]
    return said


def place_of(record: Record) -> dict[str, Any]:
    """Return a record's place on the log, and the ids of its trace if it has one."""
    said: dict[str, Any] = {
        "topic": record.topic(),
        "partition": record.partition(),
        "offset": record.offset(),
    }
    trace_id, span_id = trace_of(record)
    if trace_id is not None:
        said["trace_id"], said["span_id"] = trace_id, span_id
    return said


def trace_of(record: Record) -> tuple[str, str] | tuple[None, None]:
    """Return the ids of the trace and the span that a record is of, if it says so rightly."""
    context = context_of(record.headers())
    return (None, None) if context is None else (context[3:35].decode(), context[36:52].decode())


def fixed_fields(service: str) -> dict[str, Any]:
    """Return the fields that all lines of a process have."""
    return {
        "ecs.version": ECS_VERSION,
        "service.name": f"orderstream-{service}",
        "service.version": __version__,
        "process.pid": os.getpid(),
    }


class _Lines(logging.StreamHandler[TextIO]):
    """Writes lines; says how many it left out when the minute is over, or the process."""

    def __init__(self, out: TextIO, repeats_max: int) -> None:
        super().__init__(out)
        self._repeats = Repeats(repeats_max, self.handle)
        self.addFilter(self._repeats)

    def close(self) -> None:
        self._repeats.tell_all()
        super().close()


# Privacy ------------------------------------------------------------------------------------


def _private(_logger: Any, _method: str, event: _Event) -> _Event:
    """Tell of exceptions what may be told, and take contacts out of whatever else is said."""
    everything = logging.getLogger(event["logger"]).isEnabledFor(logging.DEBUG)
    words = _all_words if everything else _words
    error = _exception_of(event.pop("exc_info", None))
    event.pop("stack_info", None)
    if error is not None:
        event["error_type"] = _name_of(error)
        event["error_message"] = words(error)
        event["exception"] = _stack(error, words)
    scrubs = event["level"] != "debug"
    for name, value in event.items():
        if isinstance(value, BaseException):
            value = f"{type(value).__qualname__}: {words(value)}"
        elif not isinstance(value, int | float) and name not in _IDS and name[0] != "_":
            value = str(value)
        else:
            continue
        event[name] = _scrubbed(value) if scrubs else value
    return event


def _exception_of(given: Any) -> BaseException | None:
    if isinstance(given, BaseException):
        return given
    if isinstance(given, tuple):
        return given[1]  # pyright: ignore[reportUnknownVariableType]
    return sys.exc_info()[1] if given else None


def _words(error: BaseException) -> str:
    """Return what an exception says, if those words are ours."""
    cause = error.__cause__ if isinstance(error, Malformed) else None
    ours = type(error).__module__.partition(".")[0] == OURS and (
        cause is None or isinstance(cause, OrderstreamError | msgspec.MsgspecError)
    )
    return str(error) if ours else WITHHELD


def _all_words(error: BaseException) -> str:
    return str(error)


def _stack(error: BaseException, words: Callable[[BaseException], str]) -> str:
    """Return the traceback of an exception and its causes, the last one last, as Python does."""
    parts: list[str] = []
    each: BaseException | None = error
    while each is not None and len(parts) < _CAUSES_MAX:
        frames = "".join(traceback.format_tb(each.__traceback__))
        said = f"{_name_of(each)}: {words(each)}"
        parts.append(f"Traceback (most recent call last):\n{frames}{said}" if frames else said)
        each = each.__cause__ or (None if each.__suppress_context__ else each.__context__)
    return "\n\n".join(reversed(parts))[-_STACK_LENGTH_MAX:]


def _name_of(error: BaseException) -> str:
    kind = type(error)
    module = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
    return module + kind.__qualname__


def _scrubbed(text: str) -> str:
    return _PHONE.sub("[phone]", _MAIL.sub("[e-mail]", text))


# The two forms ------------------------------------------------------------------------------


def _for_people(_logger: Any, _method: str, event: _Event) -> _Event:
    for name in ("error_type", "error_message", "logger"):  # The stack has the first two.
        event.pop(name, None)
    return event


def _ecs(service: str) -> structlog.typing.Processor:
    def rename(_logger: Any, _method: str, event: Any) -> Any:
        line = {  # These three come first: people read them in the raw.
            "@timestamp": event.pop("timestamp"),
            "log.level": event.pop("level"),
            "message": event.pop("event"),
            **fixed_fields(service),
            "log.logger": event.pop("logger"),
        }
        line |= {FIELDS[name]: event.pop(name) for name in FIELDS if name in event}
        if event:
            line["labels"] = {k: str(v)[:_LABEL_LENGTH_MAX] for k, v in event.items()}
        return line

    return rename
