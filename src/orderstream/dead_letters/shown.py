"""Dead letters as the API and the command show them."""

from typing import Any

from orderstream.contract.envelope import rfc3339
from orderstream.dead_letters.desk import Found
from orderstream.dead_letters.rules import Brief, Handled, Place, header_value, text
from orderstream.runtime.clock import from_epoch_ms


def shown(found: Found) -> dict[str, Any]:
    """Return a dead letter as lists show it."""
    return in_short(found.letter.place, found.letter.brief, found.handled)


def in_short(place: Place, letter: Brief, handled: Handled | None) -> dict[str, Any]:
    """Return what is known of a dead letter without reading it."""
    return {
        "place": str(place),
        "order": letter.order,
        "parkedAt": rfc3339(from_epoch_ms(letter.parked_ms)),
        "origin": letter.origin,
        "exception": letter.exception,
        "reason": letter.reason,
        "times": letter.times,
        "cause": letter.cause,
        "handled": handled,
    }


def shown_whole(found: Found) -> dict[str, Any]:
    """Return all of a dead letter, headers decoded; bytes that are no text as hex."""
    letter = found.letter
    return shown(found) | {
        "attempts": letter.attempts,
        "passes": letter.passes,
        "key": None if letter.key is None else text(letter.key),
        "value": None if letter.value is None else text(letter.value),
        "headers": [{"name": n, "value": header_value(n, v)} for n, v in letter.headers],
        "stacktrace": letter.stacktrace,
    }
