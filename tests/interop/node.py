"""Node and an example's packages: installed if we may, or the tests are skipped, or fail in CI."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import NoReturn

import pytest

from orderstream.local.jars import default_cache

MISSING = "there is no Node: `apt-get install nodejs npm` (as root) brings it"
WITHIN_S = 300


def ready(example: Path, folder: Path) -> Path:
    """Return a copy of an example, with the packages of its lock and no others."""
    if not _installed() and os.geteuid() == 0 and shutil.which("apt-get"):
        command = ["apt-get", "install", "-y", "-q", "nodejs", "npm"]
        subprocess.run(command, check=False, timeout=WITHIN_S)
    if not _installed():
        _without(MISSING)
    copy = folder / example.name
    shutil.copytree(example, copy, ignore=shutil.ignore_patterns("node_modules"))
    command = ["npm", "ci", "--prefer-offline", "--cache", str(default_cache() / "npm")]
    done = subprocess.run(
        command, cwd=copy, capture_output=True, text=True, timeout=WITHIN_S, check=False
    )
    if done.returncode != 0:
        _without(f"npm brings no packages: {done.stderr.strip()[-300:]}")
    return copy


def _installed() -> bool:
    return all(shutil.which(name) for name in ("node", "npm"))


def _without(why: str) -> NoReturn:
    if os.environ.get("CI") == "true":
        pytest.fail(why)
    pytest.skip(why)
