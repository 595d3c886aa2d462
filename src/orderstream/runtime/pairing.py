"""Keeps records back, while a stage is busy, until what follows them is here too.

A projection that reads an order and its decision would write its row twice, a moment apart. Under
load the two are handled together, and the row is written once; at rest nothing is kept back.
"""

from collections.abc import Sequence, Set
from typing import NamedTuple

from orderstream.runtime.stage import Pairs, Record

KEPT_MAX = 16_000  # Of about 1 KiB each.


class _Kept(NamedTuple):
    record: Record
    since: float


class Pairing:
    """The records of one stage that wait for what follows them; for one thread.

    What is kept was read but not handled: its offsets are committed with it, later. After a crash
    it is read again.
    """

    def __init__(self, pairs: Pairs) -> None:
        self._pairs = pairs
        self._kept: list[_Kept] = []
        self._followed: Set[bytes | None] = frozenset()  # Keys of kept ones that need not wait.

    @property
    def keeps(self) -> int:
        """How many records wait."""
        return len(self._kept)

    def clear(self) -> None:
        """Forget what is kept: it will be read again."""
        self._kept = []
        self._followed = frozenset()

    def take(self, records: Sequence[Record], now: float, busy: float) -> Sequence[Record]:
        """Return what is to be handled of the records and of those kept; in order by partition.

        `busy` is from 0 to 1: none is kept longer than that part of `wait_s` from when it was
        read, nor are more than KEPT_MAX. `now` is a monotonic time in seconds.
        """
        first, then = self._pairs.first, self._pairs.then
        taken: list[Record] = []
        came = self._kept
        followed = set(self._followed)
        for record in records:
            topic = record.topic()
            if topic == first:
                came.append(_Kept(record, now))
            else:
                taken.append(record)
                if topic in then:
                    followed.add(record.key())
        due = now - self._pairs.wait_s * busy
        kept: list[_Kept] = []
        if len(came) <= KEPT_MAX and busy:
            blocked: set[int | None] = set()
            for one in came:
                record = one.record
                partition = record.partition()
                if partition not in blocked and (one.since <= due or record.key() in followed):
                    taken.append(record)
                else:
                    blocked.add(partition)
                    kept.append(one)
        else:
            taken += [one.record for one in came]
        self._kept = kept
        self._followed = {key for one in kept if (key := one.record.key()) in followed}
        return taken
