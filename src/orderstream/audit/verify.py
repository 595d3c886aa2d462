"""The audit: wait, read the log, look at the stores, judge. Shares no decision with any service.

The order of the steps is what makes the checks exact while orders keep coming (checks.py):
    1  the log is read up to where it ends now            `early` ends
    2  one snapshot of every store is taken
    3  inventory's committed offsets are looked up        `answered`
    4  the log is read on to where it ends now, past all that the snapshot can hold
"""

from collections.abc import Iterable
from contextlib import closing

from psycopg import Connection, IsolationLevel, sql

from orderstream.audit.check import Check
from orderstream.audit.checks import CHECKS, OUTCOMES, preparations
from orderstream.audit.facts import Facts, topics_read
from orderstream.audit.report import Behind, CheckResult, Report, Violation
from orderstream.audit.waiting import Progress, wait_until_read
from orderstream.readers import DECIDES, positions, readers
from orderstream.runtime.admin import Admin
from orderstream.runtime.clock import monotonic
from orderstream.runtime.database import session
from orderstream.runtime.log_reader import LogReader
from orderstream.runtime.settings import Settings
from orderstream.runtime.stage import Positions

OUTCOME_NAMES = (
    "CONFIRMED",
    "REJECTED",
    "FAILED",
    "PENDING",
    "CANCELLED",
    "EXPIRED",
    "FULFILLED",
)
LISTED_MAX = 100  # Violations of one kind that are listed; all are counted.
# Of the database's memory. A cursor is planned for its first rows unless told that all are wanted.
_SESSION = """
    SET work_mem = '64MB'; SET temp_buffers = '32MB'; SET jit = off;
    SET cursor_tuple_fraction = 1; SET statement_timeout = 0; SET timezone = 'UTC'
"""


def verify(settings: Settings, *, wait_s: float, progress: Progress | None) -> Report:
    """Prove or disprove the promises of spec.md section 5, and say what breaks them.

    Waits up to `wait_s` for what is under way. Memory does not grow with the log; the database
    keeps about 1 kB per order in temporary tables meanwhile. Raises Unavailable.
    """
    show = progress or _silent
    began = monotonic()
    group = settings.group("verify")
    with (
        session(settings.dsn(), "orderstream-verify", _SESSION) as connection,
        closing(LogReader(settings.kafka(), group)) as log,
    ):
        behind = wait_until_read(settings, log, connection, wait_s, show)
        facts = Facts(connection, settings.topics, settings.group(DECIDES))
        cut = read_log(settings, log, facts, connection, show)
        cut += _adopted(connection)
        return judge(connection, facts, cut=cut, behind=behind, began=began, progress=show)


def read_log(
    settings: Settings, log: LogReader, facts: Facts, connection: Connection, progress: Progress
) -> list[str]:
    """Turn the log into facts, and open the transaction whose snapshot is to be judged.

    Returns the partitions whose beginning has been deleted.
    """
    partitions = log.partitions(topics_read(settings.topics))
    begins = log.begins(partitions)
    facts.create_tables()
    early = log.ends(partitions)
    _read(log, facts, early, begins, progress)
    facts.analyze()

    connection.autocommit = False
    connection.isolation_level = IsolationLevel.REPEATABLE_READ
    connection.execute("SELECT 1")  # The snapshot is that of the first statement.
    (inventory,) = [reader for reader in readers(settings) if reader.service == DECIDES]
    answered = positions(inventory, Admin(settings.kafka()), connection)
    _read(log, facts, log.ends(partitions), begins, progress)
    facts.mark(early, answered)
    return [f"{topic}[{number}]" for (topic, number), first in begins.items() if first > 0]


def _adopted(connection: Connection) -> list[str]:
    """Return the topics that were lost, and made anew (recovery/lost_topics.py)."""
    if connection.execute("SELECT to_regclass('recovery.topic')").fetchone() == (None,):
        return []
    rows = connection.execute("SELECT name FROM recovery.topic WHERE adopted_at IS NOT NULL")
    return [name for (name,) in rows]


def _read(
    log: LogReader, facts: Facts, ends: Positions, begins: Positions, progress: Progress
) -> None:
    total = sum(ends[partition] - begins.get(partition, 0) for partition in ends)
    for records in log.read(ends):
        for record in records:
            facts.add(record)
        progress("reading the log", min(facts.records, total), total)
    facts.flush()
    progress("reading the log", total, total)


def judge(
    connection: Connection,
    facts: Facts,
    *,
    cut: Iterable[str] = (),
    behind: Iterable[Behind] = (),
    began: float | None = None,
    progress: Progress | None = None,
    checks: Iterable[Check] = CHECKS,
) -> Report:
    """Run the checks on facts and stores, in the connection's open transaction.

    `cut` names partitions whose beginning was deleted: checks that need it stay undecided.
    """
    show = progress or _silent
    began = monotonic() if began is None else began
    checks, steps = list(checks), preparations()
    steps_total = len(steps) + len(checks)
    for done, statement in enumerate(steps):
        show("checking", done, steps_total)
        connection.execute(statement)
    names = ", ".join(cut)
    violations: list[Violation] = []
    results: list[CheckResult] = []
    for done, check in enumerate(checks, len(steps)):
        show("checking", done, steps_total)
        started = monotonic()
        undecided = f"the beginning was deleted of {names}" if names and check.whole_log else None
        found = 0 if undecided else _run(connection, check, facts.names, violations)
        seconds = round(monotonic() - started, 3)
        results.append(CheckResult(check.name, check.sentence, found, seconds, undecided))
    show("checking", steps_total, steps_total)
    counted: dict[str, int] = dict(connection.execute(OUTCOMES).fetchall())
    outcomes = {name: counted.get(name, 0) for name in OUTCOME_NAMES}
    return Report(
        orders=sum(outcomes.values()),
        records=facts.records,
        outcomes=outcomes,
        violations=violations,
        counts={result.name: result.found for result in results},
        seconds=round(monotonic() - began, 3),
        checks=results,
        behind=list(behind),
    )


def _run(
    connection: Connection, check: Check, names: dict[int, str], violations: list[Violation]
) -> int:
    """Count what a check finds, and list the first of it."""
    found = 0
    with connection.cursor("found") as cursor:
        cursor.itersize = 2000
        cursor.execute(sql.SQL(check.sql))
        for order_id, place, detail in cursor:
            found += 1
            if found <= LISTED_MAX:
                topic, partition, offset = place or (None, None, None)
                name = None if topic is None else names[topic]
                violations.append(
                    Violation(check.name, order_id, name, partition, offset, detail or "")
                )
    return found


def _silent(_step: str, _done: int, _total: int) -> None:
    pass
