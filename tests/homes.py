"""Data folders for real servers, and nothing left of them anywhere."""

import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def own_home() -> Generator[Path]:
    """Make a data folder, and remove it afterwards; end its servers before."""
    # Not under pytest's folder, which is closed to others: root's PostgreSQL runs as another user.
    home = Path(tempfile.mkdtemp(prefix="orderstream-test-"))
    home.chmod(0o755)
    try:
        yield home
    finally:
        remove(home)


def remove(home: Path) -> None:
    """Remove a data folder, and what lies elsewhere because PostgreSQL's user may not go there."""
    data = home / "postgres" / "data"
    linked = data.resolve().parent if data.is_symlink() else None
    if linked is not None:  # First: once its home is gone, the next start of any removes it too.
        shutil.rmtree(linked)
    shutil.rmtree(home, ignore_errors=True)
