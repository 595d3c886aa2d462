"""Which Python `make setup` takes."""

import os
import subprocess
import sys
from pathlib import Path

TOP = Path(__file__).parents[2]


def chosen(folder: Path, python3: str) -> str:
    """What `.ci/python` prints where `python3` is this script."""
    (folder / "python3").write_text(f"#!/bin/sh\n{python3}\n")
    (folder / "python3").chmod(0o755)
    environment = os.environ | {"PATH": f"{folder}:{os.environ['PATH']}"}
    done = subprocess.run(
        [TOP / ".ci" / "python"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout.strip()


class TestThePythonOfSetup:
    def test_is_python3_where_no_other_is_clearly_faster(self, tmp_path: Path) -> None:
        assert chosen(tmp_path, "echo 1 /opt/my python/bin/python3") == "/opt/my python/bin/python3"

    def test_is_not_a_python3_that_is_too_old_or_cannot_make_an_environment(
        self, tmp_path: Path
    ) -> None:
        other = tmp_path / "python3.11"
        other.write_text(f"#!/bin/sh\necho 100 {sys.executable}\n")
        other.chmod(0o755)
        assert chosen(tmp_path, "echo 'no module ensurepip' >&2; exit 1") == sys.executable

    def test_is_one_that_takes_half_the_time(self, tmp_path: Path) -> None:
        other = tmp_path / "python3.12"
        other.write_text("#!/bin/sh\necho 1 /opt/optimised\n")
        other.chmod(0o755)
        assert chosen(tmp_path, "echo 1000000000 /opt/slow") == "/opt/optimised"
