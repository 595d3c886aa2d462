"""`db reconcile`: a database restored from a backup is given what only the log still knows.

Kafka has every order first, and what inventory said of it together with inventory's offsets. So
what a backup lacks is on the log, and none of it may be decided anew:
    inventory     is given the outcomes on the log; its offsets stay where they are, in Kafka
    order         is given the claims and the ends of orders; ids that were given stay given
    notification  reads on from the backup's offsets; what was in hand is told to nobody again
    view, analytics  read on from the backup's offsets
    a consumer of a user's own handles again what its store lost, and publishes none of it again
All of the stores are one transaction; then Kafka's offsets are set. Done again after a crash at any
point, it does the rest; done twice, it does nothing.
"""

from collections.abc import Iterable, Mapping
from contextlib import closing

from msgspec import Struct, structs
from psycopg import Connection, Rollback, sql

from orderstream.contract.errors import Unavailable
from orderstream.notification.store import TOLD_BEFORE
from orderstream.readers import DECIDES, Reader, positions, readers
from orderstream.recovery import statements
from orderstream.recovery.facts import Facts
from orderstream.recovery.guard import ahead_of, projections
from orderstream.runtime.admin import Admin
from orderstream.runtime.database import session
from orderstream.runtime.log_reader import LogReader
from orderstream.runtime.positions import positions_in
from orderstream.runtime.replay import Replay
from orderstream.runtime.settings import Settings
from orderstream.runtime.stage import Positions

_SESSION = "SET lock_timeout = '10s'; SET timezone = 'UTC'; SET jit = off; SET work_mem = '64MB'"
# Between two ids that we gave there are fewer: what is further off, a client chose. So many are
# left out behind the last, too: they may have been given, and not have reached the log.
IDS_LEFT_OUT_MAX = 1_000_000


class Raised(Struct, frozen=True, rename="camel"):
    """A SKU of which more was reserved than the backup has on hand: `by` so many were put there."""

    sku: str
    on_hand: int
    by: int


class Reconciled(Struct, frozen=True, rename="camel"):
    """What was put in, or would be; `done` unless it was a dry run."""

    done: bool
    orders: int  # That came after the backup.
    decided: int
    released: int
    shipped: int
    ended: int
    claims: int
    next_id: int
    not_told_again: int  # Offsets: of what was in hand of these, nobody is told again.
    raised: list[Raised]
    consumers: list[str]
    gaps: list[str]


def reconcile(
    settings: Settings,
    own: Mapping[str, Replay],
    *,
    dry_run: bool = False,
    despite_gaps: bool = False,
    tell_again: bool = False,
) -> Reconciled:
    """Give the stores what the log knows; `own` are the replays of consumers of a user's own.

    With `tell_again` customers are told of what was in hand, whether or not they have been.
    Raises Unavailable: also while a service runs, or when the log has a gap; nothing was done then.
    """
    admin = Admin(settings.kafka())
    with (
        session(settings.dsn(), "orderstream-reconcile", _SESSION) as connection,
        closing(LogReader(settings.kafka(), settings.group("reconcile"))) as log,
    ):
        if not dry_run:
            refuse_at_work(settings, admin, connection, own)
        at = {r.service: positions(r, admin, connection) for r in readers(settings)}
        gaps = _gaps(log, at)
        if gaps and not (dry_run or despite_gaps):
            raise Unavailable(
                f"the log does not reach back to the backup: {'; '.join(gaps)}. What was there is"
                " lost: --despite-gaps goes on with what is left"
            )
        with connection.transaction():
            facts = Facts(connection, settings.topics, at["view"], at[DECIDES])
            facts.read(log, positions_in(connection, "inventory", "forgotten"))
            found = _put(connection, facts)
            told = {} if tell_again else _told(settings, admin, connection)
            if told:
                connection.cursor().executemany(
                    statements.TOLD, [(*place, to) for place, (_, to) in told.items()]
                )
                connection.execute(statements.SKIP_WAITING, (TOLD_BEFORE,))
            if dry_run:
                raise Rollback
        behind = {name: plan for name, job in own.items() if (plan := job.lost()).moves}
        if not dry_run:
            for name, plan in behind.items():
                own[name].run(plan)
            for reader in projections(settings):  # Last: what `guard` goes by.
                _set_back(admin, reader, at[reader.service])
    return structs.replace(
        found,
        done=not dry_run,
        not_told_again=sum(to - since for since, to in told.values()),
        consumers=sorted(behind),
        gaps=gaps,
    )


def _put(connection: Connection, facts: Facts) -> Reconciled:
    for table in ("log_decided", "log_released", "log_ended", "log_claim"):
        connection.execute(sql.SQL("ANALYZE {}").format(sql.Identifier(table)))

    def changed(statement: str) -> int:
        return connection.execute(statement.encode()).rowcount

    decided = changed(statements.DECIDED)
    released = changed(statements.RELEASED)
    shipped = connection.execute(statements.SHIPPED).fetchone()
    changed(statements.ENDED)
    raised = [Raised(*row) for row in connection.execute(statements.STOCK)]
    return Reconciled(
        done=True,
        orders=facts.orders,
        decided=decided,
        released=released,
        shipped=0 if shipped is None else shipped[0],
        ended=changed(statements.CHANGES),
        claims=changed(statements.CLAIMS),
        next_id=_next_id(connection, facts.ids),
        not_told_again=0,
        raised=raised,
        consumers=[],
        gaps=[],
    )


def _next_id(connection: Connection, given: Iterable[int]) -> int:
    """See that no id is given again, and return the next."""
    row = connection.execute(statements.NEXT_ID).fetchone()
    if row is None:
        raise Unavailable("orders.id_block has lost its row: the backup is not whole")
    (first,) = row
    after = id_after(first, given)
    if after > first:
        connection.execute(statements.SET_NEXT_ID, (after,))
    return after


def id_after(first: int, given: Iterable[int]) -> int:
    """Return from where on ids can be given: `first`, where none from there on was given yet.

    Numbers far above the others were chosen by a program that is not ours.
    """
    last = first - 1
    for number in sorted(number for number in given if number >= first):
        if number - last > IDS_LEFT_OUT_MAX:
            break
        last = number
    return first if last < first else last + 1 + IDS_LEFT_OUT_MAX


def _told(
    settings: Settings, admin: Admin, connection: Connection
) -> dict[tuple[str, int], tuple[int, int]]:
    """Return from and up to where customers were told, as Kafka knows, of what the store lacks."""
    known = positions_in(connection, "notification", "told")
    return {
        (place.topic, place.partition): (place.stored, place.committed)
        for place in ahead_of(settings, admin, connection)
        if place.service == "notification"
        and place.committed > known.get((place.topic, place.partition), 0)
    }


def _set_back(admin: Admin, reader: Reader, stored: Positions) -> None:
    """Have Kafka show where the store is."""
    committed = admin.committed(reader.group, reader.reads)
    back = {at: stored.get(at, 0) for at in committed if committed[at] > stored.get(at, 0)}
    admin.set_committed(reader.group, back)


def _gaps(log: LogReader, at: Mapping[str, Positions]) -> list[str]:
    """Say where the log begins behind, or ends before, where a store has read to."""
    stored = {name: read for name, read in at.items() if name != DECIDES}
    places = {place for read in stored.values() for place in read}
    there = [*log.partitions({topic for topic, _ in places})]
    begins, ends = log.begins(there), log.ends(there)
    found: list[str] = []
    for name, read in stored.items():
        for (topic, number), to in sorted(read.items()):
            place = f"{topic}[{number}]"
            if (topic, number) not in begins:
                found.append(f"{place} is gone, {name} had read {to}")
            elif to < begins[topic, number]:
                found.append(f"{place} begins at {begins[topic, number]}, {name} had read {to}")
            elif to > ends[topic, number]:
                found.append(f"{place} ends at {ends[topic, number]}, {name} had read {to}")
    return found


def refuse_at_work(
    settings: Settings, admin: Admin, connection: Connection, own: Mapping[str, Replay]
) -> None:
    """Raise Unavailable while a service runs."""
    at_work = {r.service: admin.members(r.group) for r in readers(settings)}
    at_work |= {name: job.members() for name, job in own.items()}
    at_work["order"] = _sessions(connection)
    if running := [f"{name} ({', '.join(who)})" for name, who in at_work.items() if who]:
        raise Unavailable(
            f"stop every service first; there are {', '.join(running)}. Kafka forgets a worker 6 s"
            " after it has stopped"
        )


def _sessions(connection: Connection) -> list[str]:
    """Return the order service's connections: it is in no consumer group."""
    query = """
        SELECT format('connection %s', pid) FROM pg_stat_activity
        WHERE datname = current_database() AND application_name = 'orderstream-orders'
    """
    return [name for (name,) in connection.execute(query)]
