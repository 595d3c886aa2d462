"""Keeps records back, while a stage is busy, until their other half is here too.

A projection that reads an order and its decision would write its row twice, a moment apart. Under
load the two are handled together, and the row is written once; at rest nothing is kept back.

Two topics are not read at the same pace, and the one that is ahead would have more and more
waiting, in vain in the end: while many wait, no more of it is read. Where waiting is in vain all
the same, as in a replay of a log that has lost one of the two, it soon is not done any more.
"""

from collections import OrderedDict, defaultdict, deque
from collections.abc import Sequence

from orderstream.runtime.stage import Pairs, Positions, Record, positions_after

MANY = 8_000  # A batch, and a second of a busy shop's; what inventory has under way is a part.
KEPT_MAX = 32_000  # Of about 1 KiB each: of both halves, many and a batch read beside them.
PATIENCE_MIN_S = 0.1
WAIT_MIN_S = 0.01  # Less is not waited for: what is kept is looked at with the next records only.

_Key = bytes | None
_Waits = deque[tuple[Record, _Key, float]]  # Of one partition: in order, with when each was read.


class Pairing:
    """The records of one stage that wait for their other half; for one thread.

    What is kept was read but not handled: its offsets are committed with it, later. After a crash
    it is read again.
    """

    def __init__(self, pairs: Pairs) -> None:
        self._half_of = {pairs.first: 0} | dict.fromkeys(pairs.then, 1)
        self._wait_s = self._patience_s = pairs.wait_s
        self.clear()

    def clear(self) -> None:
        """Forget what is kept: it will be read again."""
        self._waits = {topic: defaultdict[int, _Waits](deque) for topic in self._half_of}
        self._keeps = [0, 0]
        self._single: dict[_Key, int] = {}  # Which half of a key waits for the other.
        self._met: dict[_Key, int] = {}  # How many kept ones of a key need not wait any more.
        self._alone = OrderedDict[_Key, None]()  # Keys that went without their other half.

    @property
    def keeps(self) -> int:
        """How many records wait."""
        return sum(self._keeps)

    def ahead(self) -> Positions | None:
        """Return where to go on, some time, with what is to be read no further for now.

        None to leave it as it is: between many and half as many.
        """
        if max(self._keeps) <= MANY:
            return {} if max(self._keeps) <= MANY // 2 else None
        return positions_after(
            [
                kept[-1][0]
                for topic, half in self._half_of.items()
                if self._keeps[half] > MANY
                for kept in self._waits[topic].values()
                if kept
            ]
        )

    def take(self, records: Sequence[Record], now: float, busy: float) -> Sequence[Record]:
        """Return what is to be handled of the records and of those kept; in order by partition.

        `busy` is from 0 to 1: none is kept longer than that part of `wait_s` from when it was
        read, nor are more than KEPT_MAX, nor any for less than WAIT_MIN_S. That wait is halved
        while more go alone than find their other half, be it too late, and doubled while they do
        not. `now` is a monotonic time in seconds.
        """
        taken: list[Record] = []
        late = self._keep(records, now, taken)
        wait_s = self._patience_s * busy
        at_once = wait_s < WAIT_MIN_S or self.keeps > KEPT_MAX
        in_pairs, alone = self._set_free(taken, now if at_once else now - wait_s)
        if not at_once and (in_pairs or alone):
            better = 0.5 if alone > in_pairs + late else 2.0
            self._patience_s = min(max(self._patience_s * better, PATIENCE_MIN_S), self._wait_s)
        return taken

    def _keep(self, records: Sequence[Record], now: float, taken: list[Record]) -> int:
        """Keep what has another half, take the rest; return how many went without their other."""
        half_of, waits, keeps = self._half_of, self._waits, self._keeps
        single, alone, late = self._single, self._alone, 0
        for record in records:
            topic = record.topic() or ""
            half = half_of.get(topic)
            if half is None:
                taken.append(record)
                continue
            key = record.key()
            waits[topic][record.partition() or 0].append((record, key, now))
            keeps[half] += 1
            if key in alone:
                del alone[key]
                self._met[key] = 1
                late += 1
            elif single.setdefault(key, half) != half:
                del single[key]
                self._met[key] = 2
        return late

    def _set_free(self, taken: list[Record], due: float) -> tuple[int, int]:
        """Take what need not wait, or not any more; return how many went in pairs, and alone."""
        in_pairs = alone = 0
        met = self._met
        for topic, half in self._half_of.items():
            for kept in self._waits[topic].values():
                before = len(kept)
                while kept:
                    record, key, since = kept[0]
                    if left := met.pop(key, 0):
                        in_pairs += 1
                        if left > 1:
                            met[key] = left - 1
                    elif since <= due:
                        alone += 1
                        self._single.pop(key, None)
                        self._alone[key] = None
                    else:
                        break
                    taken.append(record)
                    kept.popleft()
                self._keeps[half] -= before - len(kept)
        while len(self._alone) > KEPT_MAX:
            self._alone.popitem(last=False)
        return in_pairs, alone
