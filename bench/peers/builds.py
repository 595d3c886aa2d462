"""The peers' programs, built once into the cache and kept there until their sources change."""

import hashlib
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from orderstream.local.jars import default_cache

HERE = Path(__file__).parent
SPRING = HERE / "spring"
FASTSTREAM = HERE / "faststream"
JAVA_MIN = 17
WITHIN_S = 900


class Missing(Exception):
    """A peer cannot be built on this machine; says why in one line."""


def spring() -> tuple[Path, Path]:
    """Return the `java` to run it with and the jar. Raises Missing."""
    return by_maven("spring", SPRING)


def by_maven(name: str, project: Path) -> tuple[Path, Path]:
    """Return the `java` to run a Maven project of one jar with, and that jar. Raises Missing."""
    maven = shutil.which("mvn")
    if maven is None:
        raise Missing("there is no mvn on the path (Maven, with Java 17 or newer)")
    said = _run([maven, "-v"], HERE)
    version = re.search(r"Java version: (\d+)", said)
    home = re.search(r"runtime: (.+)|Java home: (.+)", said)
    if version is None or home is None or int(version[1]) < JAVA_MIN:
        raise Missing(f"mvn does not run on Java {JAVA_MIN} or newer")

    def build(folder: Path) -> None:
        shutil.copytree(project, folder, dirs_exist_ok=True)
        _run([maven, "-q", "-B", "package"], folder)

    sources = sorted(path for path in project.rglob("*") if path.is_file())
    built = _once(name, sources, build)
    java = Path((home[1] or home[2]).strip()) / "bin" / "java"
    return java, next((built / "target").glob("*.jar"))


def faststream() -> Path:
    """Return the Python of a virtual environment with what is locked. Raises Missing."""
    lock = FASTSTREAM / "requirements.lock"

    def build(folder: Path) -> None:
        _run([sys.executable, "-m", "venv", str(folder)], HERE)
        pip = [str(folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check"]
        _run([*pip, "install", "--quiet", "--require-hashes", "-r", str(lock)], HERE)

    version = "{}.{}".format(*sys.version_info)
    return _once(f"faststream-{version}", [lock], build) / "bin" / "python"


def _once(name: str, sources: Iterable[Path], build: Callable[[Path], None]) -> Path:
    digest = hashlib.sha256(b"\0".join(path.read_bytes() for path in sources)).hexdigest()[:12]
    folder = default_cache() / "bench-peers" / f"{name}-{digest}"
    built = folder / ".built"
    if not built.exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        build(folder)
        built.touch()
    return folder


def _run(command: list[str], at: Path) -> str:
    try:
        done = subprocess.run(
            command, cwd=at, capture_output=True, text=True, timeout=WITHIN_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise Missing(f"`{Path(command[0]).name}` took longer than {WITHIN_S} s") from None
    if done.returncode != 0:
        lines = (done.stdout + done.stderr).strip().splitlines() or ["no word"]
        fault = next((line for line in lines if "ERROR" in line), lines[-1])
        raise Missing(f"`{' '.join([Path(command[0]).name, *command[1:4]])}` failed: {fault[:300]}")
    return done.stdout
