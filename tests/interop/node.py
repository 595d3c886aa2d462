"""Node and an example's packages: installed if we may, or the tests are skipped, or fail in CI."""

import shutil
import subprocess
from pathlib import Path

from orderstream.local.jars import default_cache
from tests.programs import missing, program

WITHIN_S = 300


def ready(example: Path, folder: Path) -> Path:
    """Return a copy of an example, with the packages of its lock and no others."""
    program("node", "nodejs")
    program("npm")
    copy = folder / example.name
    shutil.copytree(example, copy, ignore=shutil.ignore_patterns("node_modules"))
    command = ["npm", "ci", "--prefer-offline", "--cache", str(default_cache() / "npm")]
    done = subprocess.run(
        command, cwd=copy, capture_output=True, text=True, timeout=WITHIN_S, check=False
    )
    if done.returncode != 0:
        missing(f"npm brings no packages: {done.stderr.strip()[-300:]}")
    return copy
