"""PostgreSQL for one service: its pool, its transactions, and its drivers' errors as ours."""

import re
from collections.abc import Generator, Iterable
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import LiteralString

import msgspec
import psycopg
from psycopg import Connection, errors
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg_pool import ConnectionPool, PoolTimeout

from orderstream.contract.errors import OutcomeUnknown, Unavailable

STATEMENT_TIMEOUT_S = 30.0
LOCK_TIMEOUT_S = 10.0
CONNECT_TIMEOUT_S = 5

_encode = msgspec.json.Encoder().encode
# Perhaps also of an escaped backslash before such a letter: the slow way is right for all.
_OTHER_ESCAPE = re.compile(r"\\[bfnrtu]")


# A server that vanishes without a word is noticed within 15 s.
_ALIVE = {
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
}


def role_of(schema: str) -> str:
    """Name the role that owns nothing but may read and write this one schema."""
    return f"orderstream_{schema}"


def pg_array(values: Iterable[str | int | datetime | None]) -> str:
    """Write a PostgreSQL array, to be cast to its type by the statement that it is given to.

    psycopg's own way goes through regular expressions, which was a third of the view's time. A
    JSON array has the same form but for its brackets, and for escapes other than of \\ and \".
    """
    values = list(values)
    written = _encode(values).decode()
    if _OTHER_ESCAPE.search(written):
        quoted = ["NULL" if v is None else _quoted(str(v)) for v in values]
        return "{" + ",".join(quoted) + "}"
    return "{" + written[1:-1] + "}"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


class Database:
    """One service's schema, reached under that service's own role.

    Faults of the record in hand (bad data, a broken constraint) leave as psycopg's DataError and
    IntegrityError; every other error of the driver leaves as Unavailable, or as OutcomeUnknown
    when the connection broke while a commit was under way.
    """

    def __init__(
        self, dsn: str, schema: str, pool_max: int = 4, patience_s: float = STATEMENT_TIMEOUT_S
    ) -> None:
        """Open no connection yet; `patience_s` is what one statement may take."""
        options = (
            f"-c search_path={schema} -c role={role_of(schema)}"
            f" -c statement_timeout={patience_s * 1000:.0f}"
            f" -c lock_timeout={min(patience_s, LOCK_TIMEOUT_S) * 1000:.0f}"
            " -c idle_in_transaction_session_timeout=60000"
            # What was committed stays, whatever the server's default is.
            " -c synchronous_commit=on"
            # Every statement here finds its rows by an index. A plan that was prepared while a
            # table was empty would go on reading all of it until the next ANALYZE.
            " -c enable_seqscan=off -c jit=off"
        )
        self.schema = schema
        self._pool = ConnectionPool(
            make_conninfo(
                dsn,
                **(_ALIVE | conninfo_to_dict(dsn)),
                options=options,
                application_name=f"orderstream-{schema}",
                connect_timeout=CONNECT_TIMEOUT_S,
            ),
            min_size=0,  # None is opened before the first use: the schema may not be there yet.
            max_size=pool_max,
            timeout=min(patience_s, CONNECT_TIMEOUT_S),
            max_idle=300,
            reconnect_timeout=1,
            open=True,
            name=schema,
        )

    @contextmanager
    def transaction(self) -> Generator[Connection]:
        """Give a connection whose work is committed at the end, or rolled back on an error.

        Raises Unavailable (nothing was done) or OutcomeUnknown (the commit may have been done).
        """
        with _translated():
            connection = self._pool.getconn()
        try:
            with _translated():
                try:
                    yield connection
                except BaseException:
                    with suppress(psycopg.Error):
                        connection.rollback()
                    raise
            self._commit(connection)
        finally:
            broken = connection.broken
            self._pool.putconn(connection)
            if broken:
                self._pool.check()  # The server went away: do not hand out its other connections.

    def _commit(self, connection: Connection) -> None:
        try:
            connection.commit()
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            if connection.broken:
                raise OutcomeUnknown(f"PostgreSQL went away during a commit: {error}") from error
            raise Unavailable(f"PostgreSQL refused a commit: {error}") from error

    def ping(self) -> None:
        """Do nothing, successfully. Raises Unavailable."""
        with self.transaction() as connection:
            connection.execute("SELECT 1")

    def close(self) -> None:
        """Close every connection."""
        self._pool.close()


@contextmanager
def _translated() -> Generator[None]:
    try:
        yield
    except (psycopg.DataError, psycopg.IntegrityError):
        raise  # The record's own fault.
    except errors.UndefinedTable as error:
        raise Unavailable(
            f"the store is not set up, run `orderstream db migrate`: {error}"
        ) from error
    except (psycopg.Error, PoolTimeout) as error:
        raise Unavailable(f"PostgreSQL is away or refused: {error}") from error


@contextmanager
def session(dsn: str, name: str, setup: LiteralString) -> Generator[Connection]:
    """Give an operator's own session over all schemas; what it leaves open is rolled back.

    `setup` is run first. Raises Unavailable for whatever the driver says.
    """
    try:
        with (
            _translated(),
            psycopg.connect(
                dsn, autocommit=True, connect_timeout=CONNECT_TIMEOUT_S, application_name=name
            ) as connection,
        ):
            connection.execute(setup)
            yield connection
            connection.rollback()
    except psycopg.Error as error:
        raise Unavailable(f"PostgreSQL refused: {error}") from error
