"""Counts in PostgreSQL."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, LiteralString

from psycopg import Connection

from orderstream.analytics.ranges import Cut, Range
from orderstream.analytics.rules import (
    HAPPENS,
    OUTCOMES,
    PENDING,
    Counting,
    quantiles_ms,
    sell_through,
)
from orderstream.analytics.store import Row
from orderstream.runtime.database import Database, pg_array

NAMES = tuple(OUTCOMES.values())
ONE_AT_A_TIME = 0x0DE5_0A11  # An advisory lock's number: any, used for nothing else.
BLOCK = 64  # Orders of one row (migrations/0003.minutes.sql).
QUARTER = 15  # Minutes.
OF_DECISIONS = ("p50", "p99")
DIGITS = 18  # Of a number that surely fits a bigint.

NAMED = "SELECT order_id, facts FROM counted_names WHERE order_id = ANY(%s::text[])"
# Locked: `orderstream prune` takes orders out of blocks. In one order, as it does.
BLOCKS_TO_CHANGE = """
    SELECT block, facts FROM counted_numbers WHERE block = ANY(%s::bigint[])
    ORDER BY block FOR UPDATE
"""
REMEMBER = """
    INSERT INTO counted_names (order_id, facts) SELECT * FROM unnest(%s::text[], %s::smallint[])
    ON CONFLICT (order_id) DO UPDATE SET facts = excluded.facts
"""
# The rows come as one string of bytes, BLOCK each: psycopg takes long to write many.
REMEMBER_BLOCKS = """
    INSERT INTO counted_numbers (block, facts)
    SELECT block, substr(facts, 64 * at::int - 63, 64)
    FROM unnest(%s::bigint[]) WITH ORDINALITY AS rows (block, at), (SELECT %s::bytea) AS of (facts)
    ON CONFLICT (block) DO UPDATE SET facts = excluded.facts
"""
PER_OUTCOME = """
    INSERT INTO per_outcome AS c (outcome, orders)
    SELECT * FROM unnest(%s::text[], %s::bigint[]) ORDER BY 1
    ON CONFLICT (outcome) DO UPDATE SET orders = c.orders + excluded.orders
"""
PER_MINUTE = """
    INSERT INTO per_minute AS c (minute, outcome, orders)
    SELECT to_timestamp(m * 60), o, n FROM unnest(%s::bigint[], %s::text[], %s::bigint[])
        AS given (m, o, n) ORDER BY 1, 2
    ON CONFLICT (minute, outcome) DO UPDATE SET orders = c.orders + excluded.orders
"""
PER_SKU = """
    INSERT INTO per_sku AS c (sku, sold, lost)
    SELECT * FROM unnest(%s::text[], %s::bigint[], %s::bigint[]) ORDER BY 1
    ON CONFLICT (sku) DO UPDATE SET sold = c.sold + excluded.sold, lost = c.lost + excluded.lost
"""


def _adding_skus(table: LiteralString) -> LiteralString:
    return f"""
        INSERT INTO {table} AS c (minute, sku, sold, lost)
        SELECT to_timestamp(m * 60), s COLLATE "C", sold, lost FROM unnest(%s::bigint[],
            %s::text[], %s::bigint[], %s::bigint[]) AS given (m, s, sold, lost) ORDER BY 1, 2
        ON CONFLICT (minute, sku)
            DO UPDATE SET sold = c.sold + excluded.sold, lost = c.lost + excluded.lost
    """


SKU_MINUTE, SKU_QUARTER = _adding_skus("sku_minute"), _adding_skus("sku_quarter")
USERS_OF_BATCH = """
    INSERT INTO user_batch (minute, outcome, users, orders)
    SELECT to_timestamp(m * 60), o, u::text[], n::int[]
    FROM unnest(%s::bigint[], %s::text[], %s::text[], %s::text[]) AS given (m, o, u, n)
"""
LATENCY = """
    INSERT INTO latency AS c (bucket, orders)
    SELECT * FROM unnest(%s::smallint[], %s::bigint[]) ORDER BY 1
    ON CONFLICT (bucket) DO UPDATE SET orders = c.orders + excluded.orders
"""
LATENCY_MINUTE = """
    INSERT INTO latency_minute AS c (minute, bucket, orders)
    SELECT to_timestamp(m * 60), b, n FROM unnest(%s::bigint[], %s::smallint[], %s::bigint[])
        AS given (m, b, n) ORDER BY 1, 2
    ON CONFLICT (minute, bucket) DO UPDATE SET orders = c.orders + excluded.orders
"""

# Reading. A unit is the number of its start among those given, from 1 on: all zones and their
# changes of clocks are ours (ranges.py), and PostgreSQL only counts.
_IN = "minute >= %(since)s AND minute < %(until)s"
_UNIT = "width_bucket(minute, %(starts)s::timestamptz[])"
HAPPENED = f"SELECT outcome, sum(orders)::bigint FROM per_minute WHERE {_IN} GROUP BY 1"
TIMESERIES = f"""
    SELECT {_UNIT}, outcome, sum(orders)::bigint FROM per_minute WHERE {_IN}
    GROUP BY 1, 2 ORDER BY 1
"""
ALL_SKUS = """
    SELECT sku, sold, lost FROM per_sku WHERE coalesce(sku = %(of)s, true)
    ORDER BY CASE %(by)s WHEN 'lost' THEN lost ELSE sold END DESC, sku LIMIT %(limit)s
"""


def _skus(table: LiteralString) -> LiteralString:
    return f"""
        SELECT sku, sum(sold)::bigint AS sold, sum(lost)::bigint AS lost FROM {table}
        WHERE {_IN} AND coalesce(sku = %(of)s, true) GROUP BY 1
        ORDER BY CASE %(by)s WHEN 'lost' THEN sum(lost) ELSE sum(sold) END DESC, sku
        LIMIT %(limit)s
    """


def _skus_over_time(table: LiteralString) -> LiteralString:
    return f"""
        WITH best AS MATERIALIZED ({_skus(table)})
        SELECT {_UNIT}, sku, sum(m.sold)::bigint, sum(m.lost)::bigint
        FROM {table} m JOIN best USING (sku) WHERE {_IN} GROUP BY 1, 2 ORDER BY 1, 2
    """


_OF_USERS = f"""
    FROM user_batch CROSS JOIN LATERAL unnest(users, orders) AS each (user_id, n)
    WHERE {_IN} AND coalesce(user_id = %(of)s, true)
"""
# In the sequence of OUTCOMES.
_BY_OUTCOME = """
    coalesce(sum(n) FILTER (WHERE outcome = 'CONFIRMED'), 0)::bigint,
    coalesce(sum(n) FILTER (WHERE outcome = 'REJECTED'), 0)::bigint,
    coalesce(sum(n) FILTER (WHERE outcome = 'FAILED'), 0)::bigint,
    coalesce(sum(n) FILTER (WHERE outcome = 'CANCELLED'), 0)::bigint,
    coalesce(sum(n) FILTER (WHERE outcome = 'EXPIRED'), 0)::bigint,
    coalesce(sum(n) FILTER (WHERE outcome = 'FULFILLED'), 0)::bigint
"""
_DECIDED = "sum(n) FILTER (WHERE outcome IN ('CONFIRMED', 'REJECTED', 'FAILED'))"
USERS = f"""
    SELECT user_id, {_BY_OUTCOME} {_OF_USERS} GROUP BY 1
    ORDER BY {_DECIDED} DESC NULLS LAST, user_id COLLATE "C" LIMIT %(limit)s
"""
USERS_OVER_TIME = f"""
    WITH best AS MATERIALIZED ({USERS})
    SELECT {_UNIT}, user_id, {_BY_OUTCOME} {_OF_USERS} AND user_id IN (SELECT user_id FROM best)
    GROUP BY 1, 2 ORDER BY 1, user_id COLLATE "C"
"""
LATENCIES = f"SELECT bucket, sum(orders)::bigint FROM latency_minute WHERE {_IN} GROUP BY 1"
LATENCIES_OVER_TIME = f"""
    SELECT {_UNIT}, bucket, sum(orders)::bigint FROM latency_minute WHERE {_IN}
    GROUP BY 1, 2 ORDER BY 1
"""


class PostgresCounts:
    """The CountStore on PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, tx: Connection, order_keys: Iterable[str], counting: Counting) -> None:
        """See CountStore. One batch at a time: a rival must not count the same order meanwhile.

        Rows are touched in one order, so that two workers cannot deadlock.
        """
        tx.execute("SELECT pg_advisory_xact_lock(%s)", (ONE_AT_A_TIME,))
        known = _Known(tx, order_keys)
        changes = counting(known.facts)
        if not changes.facts:
            return
        known.write(tx, changes.facts)
        _write(tx, PER_OUTCOME, changes.outcomes.items())
        _write(
            tx, PER_MINUTE, ((m, HAPPENS[fact], n) for (m, fact), n in changes.per_minute.items())
        )
        sold, lost = changes.sold, changes.lost
        places = sold.keys() | lost.keys()
        all_sold, all_lost = _summed(sold), _summed(lost)
        _write(
            tx,
            PER_SKU,
            ((sku, all_sold[sku], all_lost[sku]) for sku in all_sold.keys() | all_lost.keys()),
        )
        _write(tx, SKU_MINUTE, ((*place, sold[place], lost[place]) for place in places))
        by_quarter = _by_quarter(sold), _by_quarter(lost)
        _write(
            tx,
            SKU_QUARTER,
            (
                (*place, by_quarter[0][place], by_quarter[1][place])
                for place in by_quarter[0].keys() | by_quarter[1].keys()
            ),
        )
        _write(
            tx,
            USERS_OF_BATCH,
            (
                (minute, OUTCOMES[fact], pg_array(orders), pg_array(orders.values()))
                for (minute, fact), orders in changes.users.items()
            ),
        )
        _write(tx, LATENCY, _summed(changes.latency).items())
        _write(tx, LATENCY_MINUTE, ((*place, n) for place, n in changes.latency.items()))

    def summary(self) -> Row:
        """See CountStore."""
        with self._database.transaction() as tx:
            outcomes = dict(tx.execute("SELECT outcome, orders FROM per_outcome").fetchall())
            histogram = dict(tx.execute("SELECT bucket, orders FROM latency").fetchall())
        pending = outcomes.get(PENDING, 0)
        return {
            "orders": sum(outcomes.values()) - pending,
            "pending": pending,
            "outcomes": {name: outcomes.get(name, 0) for name in NAMES},
            "decisionLatencyMs": quantiles_ms(histogram, OF_DECISIONS),
        }

    def happened(self, of: Range) -> Row:
        """See CountStore."""
        with self._database.transaction() as tx:
            found = dict(tx.execute(HAPPENED, _place(of)).fetchall())
            histogram = dict(tx.execute(LATENCIES, _place(of)).fetchall())
        return _happened(found) | {"decisionLatencyMs": quantiles_ms(histogram, OF_DECISIONS)}

    def timeseries(self, of: Range, cut: Cut, empty: bool = False) -> list[Row]:
        """See CountStore."""
        units = self._by_unit(TIMESERIES, of, cut, empty)
        return [{cut.unit.value: at} | _happened(found) for at, found in units]

    def skus(
        self, of: Range | None, limit: int, by: str = "sold", sku: str | None = None
    ) -> list[Row]:
        """See CountStore."""
        what = {"of": sku, "by": by, "limit": limit}
        if of is None:
            rows = self._read(ALL_SKUS, what)
        else:
            rows = self._read(_skus(_skus_of(of)), _place(of) | what)
        return [_sku(*row) for row in rows]

    def skus_over_time(
        self, of: Range, cut: Cut, limit: int, by: str = "sold", sku: str | None = None
    ) -> list[Row]:
        """See CountStore."""
        starts = cut.starts(of)
        place = _place(of, starts) | {"of": sku, "by": by, "limit": limit}
        rows = self._read(_skus_over_time(_skus_of(of, starts)), place)
        return [_began(cut, starts, row[0]) | _sku(*row[1:]) for row in rows]

    def users(self, of: Range, limit: int, user_id: str | None = None) -> list[Row]:
        """See CountStore."""
        place = _place(of) | {"of": user_id, "limit": limit}
        return [_user(*row) for row in self._read(USERS, place)]

    def users_over_time(
        self, of: Range, cut: Cut, limit: int, user_id: str | None = None
    ) -> list[Row]:
        """See CountStore."""
        starts = cut.starts(of)
        place = _place(of, starts) | {"of": user_id, "limit": limit}
        rows = self._read(USERS_OVER_TIME, place)
        return [_began(cut, starts, row[0]) | _user(*row[1:]) for row in rows]

    def funnel(self, of: Range) -> tuple[list[Row], dict[str, int]]:
        """See CountStore."""
        with self._database.transaction() as tx:
            found = dict(tx.execute(HAPPENED, _place(of)).fetchall())
            now = dict(tx.execute("SELECT outcome, orders FROM per_outcome").fetchall())
        accepted = found.get("ACCEPTED", 0)
        steps = [
            {
                "step": name,
                "orders": (orders := found.get(name, 0)),
                "share": round(orders / accepted, 4) if accepted else None,
            }
            for name in ("ACCEPTED", *NAMES)
        ]
        return steps, {name: now.get(name, 0) for name in (PENDING, *NAMES)}

    def latency(self, of: Range) -> dict[int, int]:
        """See CountStore."""
        return dict(self._read(LATENCIES, _place(of)))

    def latency_over_time(
        self, of: Range, cut: Cut, empty: bool = False
    ) -> list[tuple[str, dict[int, int]]]:
        """See CountStore."""
        return self._by_unit(LATENCIES_OVER_TIME, of, cut, empty)

    def _by_unit(
        self, query: LiteralString, of: Range, cut: Cut, empty: bool
    ) -> list[tuple[str, dict[Any, int]]]:
        """Return what a query counts, by what, for each unit."""
        starts = cut.starts(of)
        units: dict[int, dict[Any, int]] = {}
        if empty:
            units = {unit: {} for unit in range(1, len(starts) + 1)}
        for unit, what, orders in self._read(query, _place(of, starts)):
            units.setdefault(unit, {})[what] = orders
        return [(cut.shown(starts[unit - 1]), found) for unit, found in units.items()]

    def _read(self, query: LiteralString, place: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        with self._database.transaction() as tx:
            return tx.execute(query, place).fetchall()


# Writing -------------------------------------------------------------------------------------


class _Known:
    """What is known of some orders, and the rows that it stands in, locked to be written back."""

    def __init__(self, tx: Connection, order_keys: Iterable[str]) -> None:
        keys = dict.fromkeys(order_keys)  # Each once.
        self._numbers = {key: int(key) for key in keys if _is_number(key)}
        names = keys.keys() - self._numbers.keys()
        self._blocks = {number // BLOCK: bytearray(BLOCK) for number in self._numbers.values()}
        if self._blocks:
            for block, facts in tx.execute(BLOCKS_TO_CHANGE, (pg_array(self._blocks),)):
                self._blocks[block] = bytearray(facts)
        self.facts: dict[str, int] = {
            key: facts
            for key, number in self._numbers.items()
            if (facts := self._blocks[number // BLOCK][number % BLOCK])
        }
        if names:
            self.facts |= tx.execute(NAMED, (pg_array(names),)).fetchall()

    def write(self, tx: Connection, facts: Mapping[str, int]) -> None:
        """Write what is known of some of them now."""
        names: list[tuple[str, int]] = []
        changed: dict[int, bytearray] = {}
        numbers, blocks = self._numbers, self._blocks
        for key, known in facts.items():
            number = numbers.get(key)
            if number is None:
                names.append((key, known))
            else:
                changed[number // BLOCK] = row = blocks[number // BLOCK]
                row[number % BLOCK] = known
        _write(tx, REMEMBER, sorted(names))
        if changed:
            rows = sorted(changed.items())
            whole = b"".join(row for _, row in rows)
            tx.execute(REMEMBER_BLOCKS, (pg_array(block for block, _ in rows), whole))


def _is_number(key: str) -> bool:
    """Whether it fits a bigint, and is no name such as 007."""
    return (
        key.isdecimal() and key.isascii() and len(key) <= DIGITS and (key[0] != "0" or key == "0")
    )


def _summed(counts: Mapping[tuple[int, Any], int]) -> Counter[Any]:
    """Add up the minutes."""
    total: Counter[Any] = Counter()
    for (_, what), number in counts.items():
        total[what] += number
    return total


def _by_quarter(counts: Mapping[tuple[int, str], int]) -> Counter[tuple[int, str]]:
    """Add up the minutes of each quarter of an hour."""
    total: Counter[tuple[int, str]] = Counter()
    for (minute, what), number in counts.items():
        total[minute - minute % QUARTER, what] += number
    return total


def _write(tx: Connection, statement: LiteralString, rows: Iterable[Sequence[str | int]]) -> None:
    columns = [pg_array(column) for column in zip(*rows, strict=True)]
    if columns:
        tx.execute(statement, columns)


# Reading -------------------------------------------------------------------------------------


def _place(of: Range, starts: Iterable[datetime] = ()) -> dict[str, Any]:
    return {"since": of.since, "until": of.until, "starts": pg_array(starts)}


def _skus_of(of: Range, starts: Iterable[datetime] = ()) -> LiteralString:
    """Return the shortest table that has the range and its units exactly."""
    edges = (of.since, of.until, *starts)
    whole = all(at.timestamp() % (QUARTER * 60) == 0 for at in edges)
    return "sku_quarter" if whole else "sku_minute"


def _began(cut: Cut, starts: Sequence[datetime], unit: int) -> Row:
    return {cut.unit.value: cut.shown(starts[unit - 1])}


def _happened(found: Mapping[str, int]) -> Row:
    return {
        "accepted": found.get("ACCEPTED", 0),
        "outcomes": {name: found.get(name, 0) for name in NAMES},
    }


def _sku(sku: str, sold: int, lost: int) -> Row:
    return {"sku": sku, "sold": sold, "lost": lost, "sellThrough": sell_through(sold, lost)}


def _user(user_id: str, *orders: int) -> Row:
    return {"userId": user_id, "outcomes": dict(zip(NAMES, orders, strict=True))}
