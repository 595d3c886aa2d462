"""Programs that are no Python packages: Debian has them, where we may install from it."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from fcntl import LOCK_EX, flock
from pathlib import Path
from typing import NoReturn

import pytest

WITHIN_S = 600
_LOCK = Path(tempfile.gettempdir()) / f"orderstream-apt.{os.geteuid()}.lock"


def program(name: str, package: str | None = None) -> str:
    """Return where a program is, installed if we may; skip without it, or fail in CI."""
    return one_of([name], package or name)


def one_of(names: Sequence[str], package: str, *more: str) -> str:
    """Return where the first of these is that is there; the package has one of them.

    `more` are options of apt-get.
    """
    found = _found(names)
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        with _LOCK.open("w") as lock:  # The other test process installs something, too.
            flock(lock, LOCK_EX)
            found = _found(names) or _installed(names, package, *more)
    if found is None:
        missing(f"there is no {names[0]}: `apt-get install {package}` (as root) brings it")
    return found


def missing(why: str) -> NoReturn:
    """Skip a test for want of what is not ours; in CI everything has to be there."""
    if os.environ.get("CI") == "true":
        pytest.fail(why)
    pytest.skip(why)


def _found(names: Sequence[str]) -> str | None:
    return next(filter(None, map(shutil.which, names)), None)


def _installed(names: Sequence[str], *wanted: str) -> str | None:
    """Install it; once more with lists of today, for those of an older image name what is gone."""
    apt = ["apt-get", "-q", f"-oDPkg::Lock::Timeout={WITHIN_S // 2}", "-oAcquire::Retries=3"]
    install = [*apt, "install", "-y", "--no-install-recommends", *wanted]
    for command in (install, [*apt, "update"], install):
        subprocess.run(command, check=False, timeout=WITHIN_S)
        if found := _found(names):
            return found
    return None
