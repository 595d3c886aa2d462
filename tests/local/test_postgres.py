"""A real PostgreSQL: the same server for all who ask, and nothing committed is lost."""

import os
import shutil
import signal
import subprocess
from pathlib import Path

import psycopg
import pytest

from orderstream.local import postgres
from orderstream.local.postgres_folder import system_user
from orderstream.local.processes import ProcessId, end, spawn, wait_until


def killed(pid: int) -> None:
    process = ProcessId.of(pid)
    assert process is not None
    os.kill(pid, signal.SIGKILL)
    assert wait_until(lambda: not process.alive(), 30)


class TestPostgres:
    def test_start_stop_and_status_may_be_repeated(self, home: Path) -> None:
        assert not postgres.status(home).running
        assert not postgres.stop(home)
        first = postgres.start(home)
        assert first.running
        assert first == postgres.start(home) == postgres.status(home)
        assert first.version.startswith("18.")
        assert postgres.stop(home)
        assert not postgres.stop(home)
        assert not postgres.status(home).running

    def test_is_durable_and_speaks_utf8_on_a_socket_alone(self, home: Path) -> None:
        wanted = {
            "fsync": "on",
            "synchronous_commit": "on",
            "max_connections": "200",
            "server_encoding": "UTF8",
            "listen_addresses": "",
            "wal_compression": "off",
        }
        with psycopg.connect(postgres.start(home).dsn) as connection:
            shown = {
                name: connection.execute("SELECT current_setting(%s)", [name]).fetchone()
                for name in wanted
            }
        assert shown == {name: (value,) for name, value in wanted.items()}

    def test_data_outlives_a_stop_and_a_kill_with_sessions_open(self, home: Path) -> None:
        status = postgres.start(home)
        with psycopg.connect(status.dsn, autocommit=True) as connection:
            connection.execute("CREATE TABLE fact AS SELECT 'Ω' AS word")
        postgres.stop(home)
        status = postgres.start(home)
        busy = subprocess.Popen(
            [postgres.psql_path(), status.dsn, "-c", "SELECT pg_sleep(60)"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        with psycopg.connect(status.dsn) as connection:
            sleepers = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%%pg_sleep%%'"

            def sleeps() -> bool:
                row = connection.execute(sleepers).fetchone()
                connection.rollback()
                return row == (2,)  # It and this question.

            assert wait_until(sleeps, 30)
        assert status.pid is not None
        killed(status.pid)
        again = postgres.start(home)
        assert again.pid != status.pid
        assert busy.wait(5) != 0
        with psycopg.connect(again.dsn) as connection:
            assert connection.execute("SELECT word FROM fact").fetchone() == ("Ω",)

    def test_a_stale_pid_file_that_names_a_stranger_is_no_obstacle(self, home: Path) -> None:
        data = postgres.start(home).data
        postgres.stop(home)
        lines = [str(os.getpid()), str(data), "1", "5432", "", "", "", "ready"]
        (data / "postmaster.pid").write_text("\n".join(lines) + "\n", "utf-8")
        assert not postgres.status(home).running
        assert not postgres.stop(home)
        assert postgres.start(home).running

    def test_a_stale_lock_of_its_socket_that_names_a_live_process_is_no_obstacle(
        self, home: Path
    ) -> None:
        """As that of a killed server which nobody has waited for yet."""
        data = postgres.start(home).data
        postgres.stop(home)
        stranger = spawn(["sleep", "60"], home / "stranger.log", user=system_user())
        try:
            socket = data.parent / "socket"
            lines = [str(stranger.pid), str(data), "1", "5432", str(socket), ""]
            (socket / ".s.PGSQL.5432.lock").write_text("\n".join(lines), "utf-8")
            assert postgres.start(home).running
        finally:
            end([stranger], with_signal=signal.SIGKILL, within_s=5)

    def test_a_long_home_gets_its_socket_elsewhere(self, home: Path) -> None:
        deep = home / ("d" * 90)
        status = postgres.start(deep)
        try:
            with psycopg.connect(status.dsn) as connection:
                assert connection.execute("SELECT 1").fetchone() == (1,)
                row = connection.execute("SHOW unix_socket_directories").fetchone()
        finally:
            postgres.stop(deep)
        assert row is not None
        assert home not in Path(row[0]).parents
        Path(row[0]).rmdir()

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root runs PostgreSQL as another user")
    def test_roots_closed_home_stays_closed(self, home: Path) -> None:
        home.chmod(0o700)
        data = postgres.start(home).data
        assert home not in data.parents
        assert home.stat().st_mode & 0o777 == 0o700
        assert postgres.status(home).running

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root runs PostgreSQL as another user")
    def test_what_is_left_of_a_temporary_home_goes_at_a_start_after_it(
        self, home: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        home.chmod(0o700)

        def made(name: str) -> Path:
            data = postgres.start(home / name).data
            postgres.stop(home / name)
            return data.parent

        gone, kept, moved, running, unmounted = (
            made(name) for name in ("gone", "kept", "moved", "running", "unmounted")
        )
        note = unmounted / "temporary-home"
        note.write_text("1" + note.read_text("utf-8"), "utf-8")  # On another file system.
        monkeypatch.setattr("tempfile.tempdir", "/nowhere")
        lasting = made("lasting")
        monkeypatch.undo()
        postgres.start(home / "running")
        try:
            for name in ("gone", "lasting", "running", "unmounted", "moved"):
                (home / name).rename(home / f"{name}.away")
            postgres.start(home / "moved.away")
            postgres.stop(home / "moved.away")
            assert not gone.exists()
            assert all((p / "data").exists() for p in (kept, moved, running, unmounted, lasting))
        finally:
            (home / "running.away").rename(home / "running")
            postgres.stop(home / "running")
            for place in (kept, moved, running, unmounted, lasting):
                shutil.rmtree(place)
