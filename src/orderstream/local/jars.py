"""Kafka's own jars, fetched once by Maven coordinate and checked against jars.lock."""

import hashlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from orderstream.contract.errors import ConfigurationError
from orderstream.local.processes import turn

BROKER = Path(__file__).with_name("jars.lock")
_FETCHES_AT_ONCE = 8
_RETRY_PAUSES_S = (0.3, 1.0, 0.0)


@dataclass(frozen=True)
class Jar:
    """One line of jars.lock; `size` is in bytes."""

    group: str
    artifact: str
    version: str
    size: int
    sha256: str

    @property
    def name(self) -> str:
        """The Maven coordinate."""
        return f"{self.group}:{self.artifact}:{self.version}"

    def path(self, cache: Path) -> Path:
        """Where the verified jar lies."""
        return cache / "jars" / f"{self.artifact}-{self.version}.jar"

    def present(self, cache: Path) -> bool:
        """Whether it lies there whole; only verified files get that name, so the size will do."""
        with suppress(FileNotFoundError):
            return self.path(cache).stat().st_size == self.size
        return False


def default_cache() -> Path:
    """The cache shared by everything on this machine: `$ORDERSTREAM_CACHE` or the user's own."""
    if chosen := os.environ.get("ORDERSTREAM_CACHE"):
        return Path(chosen).expanduser().absolute()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "orderstream"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "orderstream"


def read_lock(lock: Path = BROKER) -> tuple[Jar, ...]:
    """Every jar of a lock, in class path order; of the broker's when none is named."""
    lines = lock.read_text("utf-8").splitlines()
    fields = (line.split() for line in lines if line and not line.startswith("#"))
    return tuple(_jar(name, int(size), sha256) for name, size, sha256 in fields)


def _jar(name: str, size: int, sha256: str) -> Jar:
    group, artifact, version = name.split(":")
    return Jar(group, artifact, version, size, sha256)


def ensure_jars(
    cache: Path, progress: Callable[[int, int], None] | None = None, lock: Path = BROKER
) -> list[Path]:
    """Return the jars of a lock in class path order, fetching what is missing.

    `progress` is told bytes there and bytes in all, from the calling thread. Raises
    ConfigurationError when offline, when a repository lacks a jar, or when a SHA-256 differs; the
    jars that did arrive stay. A jar gets its name only after it was verified and is on disk, so a
    crash leaves nothing half-written behind; processes that call this at once take turns.
    """
    jars = read_lock(lock)
    if not all(jar.present(cache) for jar in jars):
        with turn(cache / "jars.flock"):
            _fetch_missing(jars, cache, progress or (lambda _done, _total: None))
    return [jar.path(cache) for jar in jars]


def _fetch_missing(jars: Sequence[Jar], cache: Path, progress: Callable[[int, int], None]) -> None:
    missing = [jar for jar in jars if not jar.present(cache)]
    total = sum(jar.size for jar in jars)
    done = total - sum(jar.size for jar in missing)
    staging = Path(tempfile.mkdtemp(prefix="fetch-", dir=cache))
    pool = ThreadPoolExecutor(_FETCHES_AT_ONCE)
    try:
        fetches = {pool.submit(_fetch, jar, staging, cache): jar for jar in missing}
        progress(done, total)
        for fetch in as_completed(fetches):
            fetch.result()
            done += fetches[fetch].size
            progress(done, total)
    finally:
        pool.shutdown(cancel_futures=True)
        shutil.rmtree(staging, ignore_errors=True)


def _fetch(jar: Jar, staging: Path, cache: Path) -> None:
    fetched = _download(jar, staging)
    _verify(jar, fetched)
    destination = jar.path(cache)
    destination.parent.mkdir(exist_ok=True)
    fetched.replace(destination)


def _download(jar: Jar, staging: Path) -> Path:
    from jgo.config import GlobalSettings
    from jgo.maven import MavenContext

    maven = MavenContext(repo_cache=staging)
    # A mirror is set where jgo's users set it, in jgo's own settings file; it is asked first.
    maven.remote_repos = {**GlobalSettings.load().repositories, **maven.remote_repos}
    artifact = maven.project(jar.group, jar.artifact).at_version(jar.version).artifact()
    for pause_s in _RETRY_PAUSES_S:
        try:
            return artifact.resolve()
        except RuntimeError as error:
            raise ConfigurationError(
                f"No Maven repository known to jgo has {jar.name}: check its settings."
            ) from error
        except OSError:  # What requests raises is one, too.
            shutil.rmtree(staging / artifact.component.path_prefix, ignore_errors=True)
            time.sleep(pause_s)
    raise ConfigurationError(
        f"{jar.name} could not be fetched: connect this machine to the network for the first "
        f"start, or fill {default_cache()} from a machine that has it."
    )


def _verify(jar: Jar, fetched: Path) -> None:
    with fetched.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() == jar.sha256:
            os.fsync(file.fileno())
            return
    fetched.unlink()
    raise ConfigurationError(
        f"{jar.name} arrived with another SHA-256 than its lock names and was deleted: try again, "
        "and if it stays so look for a proxy or mirror that alters downloads."
    )
