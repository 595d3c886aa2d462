"""`db shell`: psql on the database, and no password for others to read."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from psycopg.conninfo import make_conninfo

SHELL = (sys.executable, "-m", "orderstream", "db", "shell")
PASSWORD = "horse staple"
SHOW = r"\! tr '\0' '|' < /proc/$PPID/cmdline; echo; echo $PGPASSWORD"


def shell(dsn: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*SHELL, *arguments],
        env=os.environ | {"DATABASE_URL": dsn},
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


class TestShell:
    @pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="no /proc here")
    def test_has_the_password_in_its_environment_alone(self, dsn: str, tmp_path: Path) -> None:
        done = shell(make_conninfo(dsn, password=PASSWORD), "-X", "-c", SHOW, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        command_line, password = done.stdout.splitlines()
        assert password == PASSWORD
        assert "psql|" in command_line
        assert "horse" not in command_line

    def test_passes_on_what_follows(self, dsn: str, tmp_path: Path) -> None:
        done = shell(dsn, "-X", "-A", "-t", "-c", "SELECT current_database()", cwd=tmp_path)
        assert done.stdout.strip().startswith("test_")

    def test_of_no_connection_string_does_not_repeat_it(self, tmp_path: Path) -> None:
        done = shell("password=horse staple", cwd=tmp_path)
        assert done.returncode == 2
        assert "DATABASE_URL" in done.stderr
        assert "staple" not in done.stderr
