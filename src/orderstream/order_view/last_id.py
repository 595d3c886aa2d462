"""The ids of server-sent events: where in the log their listener is, so that it can go on there."""

from collections.abc import Sequence

from orderstream.contract.errors import Malformed
from orderstream.runtime.stage import Positions


def encode_positions(at: Positions, topics: Sequence[str]) -> bytes:
    """Write positions as `topic.partition.next`, the topic by its number, in base 36."""
    number = {topic: n for n, topic in enumerate(topics)}
    parts = sorted((number[topic], partition, n) for (topic, partition), n in at.items())
    return "-".join(".".join(map(_base36, part)) for part in parts).encode()


def decode_positions(text: str, topics: Sequence[str]) -> Positions:
    """Read positions. Raises Malformed for what no service of ours wrote."""
    at: Positions = {}
    try:
        for part in text.split("-") if text else ():
            topic, partition, after = (int(number, 36) for number in part.split("."))
            at[topics[topic], partition] = after
    except (ValueError, IndexError):
        raise Malformed("it is not an id that this service gave", "Last-Event-ID") from None
    return at


def _base36(number: int) -> str:
    digits = ""
    while number >= 36:
        number, digit = divmod(number, 36)
        digits = "0123456789abcdefghijklmnopqrstuvwxyz"[digit] + digits
    return "0123456789abcdefghijklmnopqrstuvwxyz"[number] + digits
