"""What notification keeps: one row per event and channel, and who does not want to be told."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from msgspec import Struct
from psycopg import Connection

from orderstream.notification.rules import Message, Notice, State, Verdict
from orderstream.runtime.stage import Positions

# Why a message is skipped that a restored store knows nothing of.
TOLD_BEFORE = "it was in hand before the database was restored: sent then, most likely"


class Intent(Struct, frozen=True):
    """A message that this worker is to send now; `tries` counts this one.

    `doubtful`: an earlier try may have arrived after all. `opted_out`: the customer wants nothing.
    """

    event_id: str
    channel: str
    user_id: str | None
    text: str
    message: Message
    tries: int
    doubtful: int
    created_at: datetime
    opted_out: bool = False


class NoticeStore(Protocol):
    """Notices by event and channel; none is kept twice."""

    def add(
        self, tx: Connection, channel: str, notices: Sequence[Notice], now: datetime
    ) -> list[Notice]:
        """Keep notices as told and return those that were not there yet, in the order given."""
        ...

    def intend(
        self,
        tx: Connection,
        channels: Sequence[str],
        notices: Sequence[Notice],
        now: datetime,
        *,
        told_before: bool = False,
    ) -> None:
        """Keep notices as to be sent through each channel; skipped if they were `told_before`.

        An event that this service knows of already is none: a channel that is added later tells
        nothing of what happened before, not even after a replay.
        """
        ...

    def told(self, tx: Connection) -> Positions:
        """Return up to where customers had been told before the store was restored."""
        ...

    def find(
        self, order_key: str | None, state: State | None, channel: str | None, limit: int
    ) -> list[dict[str, Any]]:
        """Return notices, newest first, as the API shows them."""
        ...

    # Sending -----------------------------------------------------------------------------

    def claim(self, channel: str, limit: int, lease_s: float, worker: int = 0) -> list[Intent]:
        """Take messages that are due, for so long: who dies with them leaves them to another.

        One that this version cannot read is given up.
        """
        ...

    def renew(self, channel: str, lease_s: float, worker: int) -> None:
        """Keep what this worker has in hand for so long from now on."""
        ...

    def resume(self, channel: str, worker: int) -> int:
        """Have what this worker died with taken again at once; return how many."""
        ...

    def settle(self, verdicts: Sequence[tuple[Intent, Verdict]]) -> None:
        """Write down what became of messages. One that another has taken meanwhile is left to
        them, unless it was sent."""
        ...

    def retry(self, event_id: str, channel: str) -> State | None:
        """Have a message tried again that was given up or skipped; return how it stood before."""
        ...

    def retry_all(self, channel: str | None, limit: int) -> int:
        """Have those tried again that were given up, the oldest first; return how many."""
        ...

    # Channels and customers --------------------------------------------------------------

    def open(self) -> list[dict[str, Any]]:
        """Count the messages that wait or were given up, by channel and state."""
        ...

    def abandon(self, in_use: Collection[str]) -> int:
        """Give up what waits for channels that are not in use any more; return how many."""
        ...

    def silence(self, channel: str, why: str) -> None:
        """Send nothing through a channel until `unsilence`."""
        ...

    def unsilence(self, channel: str) -> bool:
        """Send through it again; false if it was not silenced."""
        ...

    def silenced(self) -> Mapping[str, str]:
        """Return which channels are silenced, and why."""
        ...

    def opt_out(self, user_id: str, now: datetime) -> None:
        """Tell this customer nothing more."""
        ...

    def opt_in(self, user_id: str) -> bool:
        """Tell them again; false if they had not opted out."""
        ...

    def opted_out(self, user_ids: Collection[str]) -> set[str]:
        """Return which of these do not want to be told."""
        ...
