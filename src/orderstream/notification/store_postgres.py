"""Notices in PostgreSQL. Times of sending are the database's: workers' clocks need not agree."""

from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import Any, LiteralString

import msgspec
from msgspec import structs
from psycopg import Connection

from orderstream.contract.envelope import rfc3339
from orderstream.notification.rules import Message, Notice, State, Verdict, message
from orderstream.notification.store import TOLD_BEFORE, Intent
from orderstream.runtime.database import Database, pg_array
from orderstream.runtime.positions import positions_in
from orderstream.runtime.stage import Positions

ADD = """
    INSERT INTO notice (event_id, channel, order_id, user_id, status, text, created_at)
    SELECT event_id, %s, order_id, user_id, 'SENT', text, %s
    FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[])
        AS n (event_id, order_id, user_id, text)
    ON CONFLICT DO NOTHING
    RETURNING event_id
"""
INTEND = """
    INSERT INTO notice
        (event_id, channel, order_id, user_id, status, text, message, why, created_at, due_at)
    SELECT event_id, channel, order_id, user_id,
        CASE WHEN why IS NULL THEN 'PENDING' ELSE 'SKIPPED' END, text, message, why, at,
        CASE WHEN why IS NULL THEN least(at, now()) END
    FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::text[])
        AS n (event_id, order_id, user_id, text, message)
        CROSS JOIN unnest(%s::text[]) AS c (channel)
        CROSS JOIN (SELECT %s::timestamptz AS at, %s::text AS why) AS t
    WHERE NOT EXISTS (SELECT FROM notice o WHERE o.event_id = n.event_id)
    ON CONFLICT DO NOTHING
"""
COLUMNS = """event_id, channel, order_id, user_id, status, text, tries, doubtful, why, created_at,
    due_at, sent_at"""
CLAIM = """
    UPDATE notice AS n SET status = 'SENDING', tries = tries + 1,
        doubtful = doubtful + (status = 'SENDING')::int,
        due_at = now() + make_interval(secs => %(lease_s)s), worker = %(worker)s
    FROM (
        SELECT event_id, channel FROM notice
        WHERE channel = %(channel)s AND status IN ('PENDING', 'SENDING') AND due_at <= now()
        ORDER BY due_at, event_id LIMIT %(limit)s FOR UPDATE SKIP LOCKED
    ) AS due
    WHERE n.event_id = due.event_id AND n.channel = due.channel
    RETURNING n.event_id, n.channel, n.user_id, n.text, n.message, n.tries, n.doubtful,
        n.created_at, EXISTS (SELECT FROM opted_out o WHERE o.user_id = n.user_id)
"""
RENEW = """
    UPDATE notice SET due_at = now() + make_interval(secs => %s)
    WHERE channel = %s AND status = 'SENDING' AND worker = %s
"""
ABANDON = """
    UPDATE notice SET status = 'FAILED', why = 'its channel is not in the settings any more'
    WHERE (status = 'PENDING' OR status = 'SENDING' AND due_at <= now()) AND channel <> ALL(%s)
"""
# Not SENDING any more: RENEW is for what a living worker has in hand.
RESUME = """
    UPDATE notice SET status = 'PENDING', doubtful = doubtful + 1, due_at = now()
    WHERE channel = %s AND status = 'SENDING' AND worker = %s
"""
SETTLE = """
    UPDATE notice AS n SET status = v.status, why = v.why, doubtful = doubtful + v.unknown::int,
        due_at = CASE WHEN v.status = 'PENDING'
            THEN now() + make_interval(secs => v.due_s) END,
        sent_at = CASE WHEN v.status = 'SENT' THEN now() END
    FROM unnest(%s::text[], %s::text[], %s::int[], %s::text[], %s::text[], %s::bool[],
        %s::float8[]) AS v (event_id, channel, tries, status, why, unknown, due_s)
    WHERE n.event_id = v.event_id AND n.channel = v.channel AND n.status <> 'SENT'
        AND (n.tries = v.tries OR v.status = 'SENT')
"""
# Under a lock, so that the state before is that of the same row.
RETRY = """
    WITH before AS (
        SELECT event_id, channel, status FROM notice
        WHERE event_id = %s AND channel = %s FOR UPDATE
    ), again AS (
        UPDATE notice n SET status = 'PENDING', tries = 0, due_at = now() FROM before b
        WHERE n.event_id = b.event_id AND n.channel = b.channel
            AND b.status IN ('FAILED', 'SKIPPED')
    )
    SELECT status FROM before
"""
RETRY_ALL = """
    UPDATE notice AS n SET status = 'PENDING', tries = 0, due_at = now()
    FROM (
        SELECT event_id, channel FROM notice
        WHERE status IN ('PENDING', 'SENDING', 'FAILED') AND status = 'FAILED'
            AND (%(channel)s::text IS NULL OR channel = %(channel)s)
        ORDER BY created_at LIMIT %(limit)s FOR UPDATE
    ) AS given_up
    WHERE n.event_id = given_up.event_id AND n.channel = given_up.channel
"""
OPEN = """
    SELECT channel, status, count(*), min(created_at) FROM notice
    WHERE status IN ('PENDING', 'SENDING', 'FAILED')
    GROUP BY channel, status ORDER BY channel, status
"""
OPEN_STATES = (State.PENDING, State.SENDING, State.FAILED)  # Of which there is an index.
UNREADABLE = Verdict(State.FAILED, "this version cannot read what is to be said")
SILENCE = """
    INSERT INTO silenced (channel, why, at) VALUES (%s, %s, now())
    ON CONFLICT (channel) DO UPDATE SET why = excluded.why, at = excluded.at
"""

_encode = msgspec.json.Encoder().encode
_read = msgspec.json.Decoder(Message).decode


class PostgresNotices:
    """The NoticeStore on PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(
        self, tx: Connection, channel: str, notices: Sequence[Notice], now: datetime
    ) -> list[Notice]:
        """See NoticeStore."""
        rows = _once(notices)
        added = tx.execute(ADD, (channel, now, *_columns(rows))).fetchall()
        if len(added) == len(rows):
            return rows
        new = {event_id for (event_id,) in added}
        return [row for row in rows if row.event_id in new]

    def intend(
        self,
        tx: Connection,
        channels: Sequence[str],
        notices: Sequence[Notice],
        now: datetime,
        *,
        told_before: bool = False,
    ) -> None:
        """See NoticeStore."""
        rows = [row for row in _once(notices) if row.event is not None]
        messages = pg_array(_encode(_said(row)).decode() for row in rows)
        why = TOLD_BEFORE if told_before else None
        tx.execute(INTEND, (*_columns(rows), messages, pg_array(channels), now, why))

    def told(self, tx: Connection) -> Positions:
        """See NoticeStore."""
        return positions_in(tx, "told")

    def find(
        self, order_key: str | None, state: State | None, channel: str | None, limit: int
    ) -> list[dict[str, Any]]:
        """See NoticeStore."""
        conditions, values = ["true"], list[object]()
        if order_key is not None:
            conditions.append("order_id = %s")
            values.append(order_key)
        if channel is not None:
            conditions.append("channel = %s")
            values.append(channel)
        if state is not None:
            # Written out, and not a parameter: so the planner sees that the index of those fits.
            conditions.append(f"status = '{state.value}'")
            if state in OPEN_STATES:
                conditions.append("status IN ('PENDING', 'SENDING', 'FAILED')")
        query = (
            f"SELECT {COLUMNS} FROM notice WHERE {' AND '.join(conditions)}"
            " ORDER BY created_at DESC, event_id DESC, channel LIMIT %s"
        )
        with self._database.transaction() as tx:
            rows = tx.execute(query.encode(), (*values, limit)).fetchall()
        return [_shown(row) for row in rows]

    def claim(self, channel: str, limit: int, lease_s: float, worker: int = 0) -> list[Intent]:
        """See NoticeStore."""
        asked = {"channel": channel, "limit": limit, "lease_s": lease_s, "worker": worker}
        with self._database.transaction() as tx:
            rows = sorted(tx.execute(CLAIM, asked).fetchall())
            taken = [_intent(row) for row in rows]
            unread = [
                (row[0], row[1], row[5]) for row, it in zip(rows, taken, strict=True) if not it
            ]
            if unread:
                _settle(tx, [(*those, UNREADABLE) for those in unread])
        return [intent for intent in taken if intent is not None]

    def renew(self, channel: str, lease_s: float, worker: int) -> None:
        """See NoticeStore."""
        self._do(RENEW, lease_s, channel, worker)

    def abandon(self, in_use: Collection[str]) -> int:
        """See NoticeStore."""
        return self._do(ABANDON, list(in_use))

    def resume(self, channel: str, worker: int) -> int:
        """See NoticeStore."""
        return self._do(RESUME, channel, worker)

    def settle(self, verdicts: Sequence[tuple[Intent, Verdict]]) -> None:
        """See NoticeStore."""
        with self._database.transaction() as tx:
            _settle(tx, [(i.event_id, i.channel, i.tries, found) for i, found in verdicts])

    def retry(self, event_id: str, channel: str) -> State | None:
        """See NoticeStore."""
        with self._database.transaction() as tx:
            row = tx.execute(RETRY, (event_id, channel)).fetchone()
        return None if row is None else State(row[0])

    def retry_all(self, channel: str | None, limit: int) -> int:
        """See NoticeStore."""
        with self._database.transaction() as tx:
            return tx.execute(RETRY_ALL, {"channel": channel, "limit": limit}).rowcount

    def open(self) -> list[dict[str, Any]]:
        """See NoticeStore."""
        with self._database.transaction() as tx:
            rows = tx.execute(OPEN).fetchall()
        return [
            {"channel": channel, "status": status, "count": count, "oldest": _time(oldest)}
            for channel, status, count, oldest in rows
        ]

    def silence(self, channel: str, why: str) -> None:
        """See NoticeStore."""
        self._do(SILENCE, channel, why)

    def unsilence(self, channel: str) -> bool:
        """See NoticeStore."""
        return self._do("DELETE FROM silenced WHERE channel = %s", channel) > 0

    def silenced(self) -> dict[str, str]:
        """See NoticeStore."""
        with self._database.transaction() as tx:
            return dict(tx.execute("SELECT channel, why FROM silenced").fetchall())

    def opt_out(self, user_id: str, now: datetime) -> None:
        """See NoticeStore."""
        self._do("INSERT INTO opted_out VALUES (%s, %s) ON CONFLICT DO NOTHING", user_id, now)

    def opt_in(self, user_id: str) -> bool:
        """See NoticeStore."""
        return self._do("DELETE FROM opted_out WHERE user_id = %s", user_id) > 0

    def opted_out(self, user_ids: Collection[str]) -> set[str]:
        """See NoticeStore."""
        query = "SELECT user_id FROM opted_out WHERE user_id = ANY(%s)"
        with self._database.transaction() as tx:
            return {user_id for (user_id,) in tx.execute(query, (list(user_ids),))}

    def _do(self, statement: LiteralString, *values: object) -> int:
        with self._database.transaction() as tx:
            return tx.execute(statement, values).rowcount


def _intent(row: tuple[Any, ...]) -> Intent | None:
    event_id, channel, user_id, text, said, tries, doubtful, created_at, opted_out = row
    try:
        message = _read(said)
    except msgspec.DecodeError:
        return None
    return Intent(event_id, channel, user_id, text, message, tries, doubtful, created_at, opted_out)


def _settle(tx: Connection, found: Sequence[tuple[str, str, int, Verdict]]) -> None:
    columns = (
        pg_array(event_id for event_id, *_ in found),
        pg_array(channel for _, channel, *_ in found),
        pg_array(tries for _, _, tries, _ in found),
        pg_array(verdict.state.value for *_, verdict in found),
        pg_array(verdict.why for *_, verdict in found),
        pg_array(verdict.unknown for *_, verdict in found),
        [verdict.due_s for *_, verdict in found],
    )
    tx.execute(SETTLE, columns)


def _said(row: Notice) -> Message:
    assert row.event is not None
    return structs.replace(message(row.event), traceparent=row.traceparent)


def _once(notices: Sequence[Notice]) -> list[Notice]:
    return list({notice.event_id: notice for notice in notices}.values())


def _columns(rows: Sequence[Notice]) -> tuple[str, str, str, str]:
    return (
        pg_array(row.event_id for row in rows),
        pg_array(row.order_key for row in rows),
        pg_array(None if row.user_id is None else str(row.user_id) for row in rows),
        pg_array(row.text for row in rows),
    )


def _shown(row: tuple[Any, ...]) -> dict[str, Any]:
    event_id, channel, order_id, user_id, state, text, *rest = row
    tries, doubtful, why, created_at, due_at, sent_at = rest
    shown: dict[str, Any] = {
        "id": f"{event_id}:{channel}",
        "eventId": event_id,
        "channel": channel,
        "orderId": order_id,
        "userId": user_id,
        "status": state,
        "text": text,
        "createdAt": _time(created_at),
    }
    if tries:
        shown["tries"] = tries
    if doubtful:
        shown["doubtful"] = doubtful
    if why is not None:
        shown["why"] = why
    if due_at is not None:
        shown["dueAt"] = _time(due_at)
    if sent_at is not None:
        shown["sentAt"] = _time(sent_at)
    return shown


def _time(at: datetime) -> str:
    return rfc3339(at.astimezone(UTC))
