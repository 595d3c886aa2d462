"""What a consumer of a user's own is: a function, and what it says of itself in its decorator.

The decorator is imported by every user's module, so this file imports nothing heavy.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from inspect import iscoroutinefunction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from orderstream.contract.errors import ConfigurationError
from orderstream.extension.naming import NAME_MAX, is_name, schema_of
from orderstream.flow import PROGRAMS

if TYPE_CHECKING:
    from psycopg import Connection

    from orderstream.extension.events import Events

# Groups and transactional ids of ours that are no service.
RESERVED = frozenset(
    {*PROGRAMS, "operator", "feed", "lag", "verify", "prune", "consume", "dead-letters"}
)
_ATTRIBUTE = "orderstream_consumer"
_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,200}")

Start = Literal["beginning", "end"]
Published = tuple[Any, ...]  # Topic, key, value, and headers if there are any.
# How each of a user's functions is typed is the user's own affair; what it takes is documented.
Handle = Callable[["Events", "Connection"], Iterable[Published] | None]
F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Definition:
    """A consumer: its name is its group's, its schema's and its metrics' label."""

    name: str
    topics: tuple[str, ...]
    handle: Handle
    publishes: tuple[str, ...] = ()
    start: Start = "beginning"
    tables: str | Path = ""
    rebuild: bool = False
    retries: int | None = None
    backoff_s: float | None = None
    batch: int = 500

    @property
    def schema(self) -> str:
        """The schema that its rows are in."""
        return schema_of(self.name)

    def faults(self) -> list[str]:
        """Return all that is wrong with it, in sentences."""
        names = (*self.topics, *self.publishes)
        strange = ", ".join(name for name in names if not _TOPIC.fullmatch(name))
        both = ", ".join(sorted({*self.topics} & {*self.publishes}))
        retries, backoff_s = self.retries or 0, self.backoff_s or 1
        wrong = {
            "write its name in small letters, digits and single hyphens, at most"
            f" {NAME_MAX}, as in daily-csv": not is_name(self.name),
            "this name is one of ours": self.name in RESERVED,
            "say which topics it reads: topics=[...]": not self.topics,
            "it names a topic twice": len({*names}) < len(names) and not both,
            f"it would read what it publishes: {both}": bool(both),
            f"these are no names of topics: {strange}": bool(strange),
            'start is "beginning" or "end"': self.start not in ("beginning", "end"),
            "retries is from 0 to 10": not 0 <= retries <= 10,
            "backoff_s is from 0.01 to 3600": not 0.01 <= backoff_s <= 3600,
            "batch is from 1 to 10,000": not 1 <= self.batch <= 10_000,
            "its function is async: write a plain one": iscoroutinefunction(self.handle),
        }
        return [f"consumer {self.name}: {said}" for said, is_so in wrong.items() if is_so]


def consumer(
    name: str,
    *,
    topics: Sequence[str],
    publishes: Sequence[str] = (),
    start: Start = "beginning",
    tables: str | Path = "",
    rebuild: bool = False,
    retries: int | None = None,
    backoff_s: float | None = None,
    batch: int = 500,
) -> Callable[[F], F]:
    """Make a function a consumer, which `orderstream run MODULE:FUNCTION` runs.

    The function is called with a batch of events and an open transaction on the consumer's own
    schema, where `tables` (SQL that may be run again, or a folder of numbered .sql files) are made
    first. What it writes there and what it returns, `(topic, key, value[, headers])` each for a
    topic that `publishes` names, takes effect exactly once, whatever crashes; anything else it
    does may be repeated. What it raises is the fault of a record: the batch is split until that is
    alone, which is then tried `retries` times more, `backoff_s` seconds apart
    (ORDERSTREAM_RETRY_ATTEMPTS, ORDERSTREAM_RETRY_BACKOFF), and becomes a dead letter.

    Topics of ours are called by their default names, whatever they are renamed to. `start` is for
    the very first start. With `rebuild` a replay from the beginning empties the tables.
    Raises ConfigurationError with all that is wrong. The function stays callable as it is.
    """

    def define(function: F) -> F:
        made = Definition(
            name,
            (topics,) if isinstance(topics, str) else tuple(topics),
            function,
            (publishes,) if isinstance(publishes, str) else tuple(publishes),
            start,
            tables,
            rebuild,
            retries,
            backoff_s,
            batch,
        )
        if faults := made.faults():
            raise ConfigurationError(*faults)
        setattr(function, _ATTRIBUTE, made)
        return function

    return define


def definition_of(thing: object, called: str) -> Definition:
    """Return what a decorated function says of itself. Raises ConfigurationError."""
    found = getattr(thing, _ATTRIBUTE, None)
    if not isinstance(found, Definition):
        raise ConfigurationError(f"{called} is no consumer: decorate it with @consumer(...)")
    return found
