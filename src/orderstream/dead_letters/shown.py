"""Dead letters as the API and the command show them."""

from typing import Any

from orderstream.contract.envelope import rfc3339
from orderstream.dead_letters.desk import Found
from orderstream.dead_letters.rules import header_value, text
from orderstream.runtime.clock import from_epoch_ms


def shown(found: Found) -> dict[str, Any]:
    """Return a dead letter as lists show it."""
    letter = found.letter
    return {
        "place": str(letter.place),
        "order": letter.order,
        "parkedAt": rfc3339(from_epoch_ms(letter.parked_ms)),
        "origin": letter.origin,
        "exception": letter.exception,
        "reason": letter.reason,
        "times": len(letter.passes),
        "handled": found.handled,
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
