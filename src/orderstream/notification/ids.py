"""The name of a message wherever it goes: who sees it twice is to know it again."""

from hashlib import blake2b


def message_id(event_id: str, channel: str) -> str:
    """Return the same id for the same event and channel, safe in any header: `msg_` and 32 digits.

    An event's id has the client's own order id in it, with whatever characters.
    """
    return "msg_" + blake2b(f"{channel}\0{event_id}".encode(), digest_size=16).hexdigest()
