"""A real PostgreSQL 18 on this machine, on a Unix socket only."""

import functools
import hashlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from urllib.parse import quote

from orderstream.contract.errors import Unavailable
from orderstream.local.extra import check_installed
from orderstream.local.postgres_folder import (
    abandoned,
    own_folder,
    prepare,
    program,
    system_user,
)
from orderstream.local.processes import ProcessId, end, reap, spawn, turn, wait_until

_DATABASE = "orderstream"
_USER = "postgres"
_LOG_BYTES_MAX = 10_000_000
_READY_WITHIN_S = 60
_STOP_WITHIN_S = 10.0
_REMOVED_MAX = 20  # At one start.
_SOCKET_NAME = ".s.PGSQL.5432"

_SETTINGS = """\
# Written by orderstream at every start.
fsync = on
synchronous_commit = on
full_page_writes = on
wal_compression = off
max_wal_size = 2GB
min_wal_size = 256MB
checkpoint_timeout = 15min
shared_buffers = 128MB
max_connections = 200
listen_addresses = ''
unix_socket_directories = '{socket}'
unix_socket_permissions = 0700
log_checkpoints = off
log_min_messages = warning
timezone = 'UTC'
log_timezone = 'UTC'
"""


@dataclass(frozen=True)
class PostgresStatus:
    """What runs; `dsn` is a libpq URI, usable while `running`, and `version` like "18.4"."""

    running: bool
    dsn: str
    pid: int | None
    data: Path
    version: str


def start(home: Path) -> PostgresStatus:
    """Start the server unless it runs, and return once the `orderstream` database is there.

    Raises ConfigurationError where no PostgreSQL is installed that runs on this machine, and
    Unavailable with the end of its log when it does not come up. The server outlives this process,
    and what was committed outlives a kill -9 of it; orphans of such a server, and no other's, are
    ended.
    """
    check_installed()
    data = _data(home)
    with turn(home.absolute() / "postgres" / "flock"):
        if (running := _postmaster(data)) is not None:
            try:
                _create_database(data)
            except Unavailable:
                # Killed a moment ago, it may have looked alive.
                if not wait_until(lambda: not running.alive(), 1.0):
                    raise
        if _postmaster(data) is None:
            data = prepare(home.absolute() / "postgres" / "data")
            _remove_abandoned()
            _write_settings(data)
            _end_orphans(data)
            _launch(data)
            _create_database(data)
    return status(home)


def stop(home: Path) -> bool:
    """End the server: fast shutdown for 10 s, then by force; true if it was running."""
    data = _data(home)
    with turn(home.absolute() / "postgres" / "flock"):
        server = _postmaster(data)
        if server is None:
            return False
        stopped = end([server], with_signal=signal.SIGINT, within_s=_STOP_WITHIN_S)
        _end_orphans(data)
    return stopped


def status(home: Path) -> PostgresStatus:
    """What runs now; asks the system, not the server, so it is quick and never raises."""
    data = _data(home)
    server = _postmaster(data)
    return PostgresStatus(
        running=server is not None,
        dsn=_dsn(data, _DATABASE),
        pid=server.pid if server else None,
        data=data,
        version=_version(),
    )


def psql_path() -> Path:
    """The bundled psql."""
    return program("psql")


def _data(home: Path) -> Path:
    # Resolved: for root it is a link to where PostgreSQL's own user may go.
    return (home.absolute() / "postgres" / "data").resolve()


def _socket(data: Path) -> Path:
    """Where the socket lies: beside the data, or in the temporary folder if that is too long."""
    beside = data.parent / "socket"
    if len(os.fsencode(beside / _SOCKET_NAME)) < 100:  # 104 on macOS, 108 on Linux.
        return beside
    name = hashlib.sha256(os.fsencode(data)).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"orderstream-{os.getuid()}-{name}"


def _dsn(data: Path, database: str) -> str:
    return f"postgresql://{_USER}@/{database}?host={quote(str(_socket(data)), safe='')}"


@functools.cache
def _version() -> str:
    words = subprocess.run([psql_path(), "--version"], capture_output=True, text=True, check=True)
    return words.stdout.split()[2]


def _postmaster(data: Path) -> ProcessId | None:
    try:
        number = int((data / "postmaster.pid").read_text("utf-8").split("\n", 1)[0])
    except (FileNotFoundError, ValueError):
        return None
    reap(number)
    return next((process for process in _servers_in(data, [number])), None)


def _servers_in(data: Path, pids: Iterable[int]) -> list[ProcessId]:
    """Those that are PostgreSQL at work in this folder: each of its processes has it as its cwd."""
    import psutil

    found: list[ProcessId] = []
    for pid in pids:
        with suppress(psutil.Error, OSError):
            process = psutil.Process(pid)
            if process.name().startswith("postgres") and Path(process.cwd()) == data:
                found.append(ProcessId(pid, process.create_time()))
    return [process for process in found if process.alive()]


def _end_orphans(data: Path) -> None:
    """Backends may outlive a killed postmaster, and its pid may be a stranger's by now.

    Or a dead child's that nobody has waited for yet. PostgreSQL asks only whether there is a
    process of that number, and would not start as long as there is one: it names it in two files.
    """
    import psutil

    end(_servers_in(data, psutil.pids()), with_signal=signal.SIGQUIT, within_s=3.0)
    (data / "postmaster.pid").unlink(missing_ok=True)
    (_socket(data) / f"{_SOCKET_NAME}.lock").unlink(missing_ok=True)


def _remove_abandoned() -> None:
    for place in islice(abandoned(), _REMOVED_MAX):
        if _postmaster(place / "data") is None:
            shutil.rmtree(place, ignore_errors=True)


def _launch(data: Path) -> None:
    log = data.parent / "server.log"
    if log.exists() and log.stat().st_size > _LOG_BYTES_MAX:
        log.unlink()
    server = spawn([program("postgres"), "-D", data], log, user=system_user(), cwd=data)
    if not wait_until(lambda: _is_ready(data) or not server.alive(), _READY_WITHIN_S, 0.01):
        end([server], with_signal=signal.SIGQUIT, within_s=_STOP_WITHIN_S)
    if not server.alive():
        words = "\n".join(log.read_text("utf-8", "replace").splitlines()[-8:])
        raise Unavailable(f"PostgreSQL did not come up in {data}:\n{words}")


def _is_ready(data: Path) -> bool:
    try:
        lines = (data / "postmaster.pid").read_text("utf-8").splitlines()
    except FileNotFoundError:
        return False
    return len(lines) >= 8 and lines[7].strip() == "ready"


def _write_settings(data: Path) -> None:
    socket = _socket(data)
    own_folder(socket)
    text = _SETTINGS.format(socket=str(socket).replace("'", "''"))
    (data / "orderstream.conf").write_text(text, "utf-8")
    (data / "orderstream.conf").chmod(0o644)


def _create_database(data: Path) -> None:
    import psycopg

    try:
        with psycopg.connect(_dsn(data, "postgres"), autocommit=True, connect_timeout=10) as admin:
            known = admin.execute("SELECT 1 FROM pg_database WHERE datname = %s", [_DATABASE])
            if known.fetchone() is None:
                admin.execute(f"CREATE DATABASE {_DATABASE} TEMPLATE template0 ENCODING 'UTF8'")
    except psycopg.Error as error:
        raise Unavailable(f"PostgreSQL in {data} did not answer: {error}") from error
