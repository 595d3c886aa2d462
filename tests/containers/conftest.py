"""The image's environment, and the compose files with a `.env` that entrypoint.sh made."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from dotenv import dotenv_values

from tests.containers.compose import PLAIN, copy_files
from tests.containers.image import install
from tests.ports import own_port

SERVICES = ("ORDER", "INVENTORY", "VIEW", "NOTIFICATION", "ANALYTICS", "CONSOLE")

# Answers as an engine does, so far as entrypoint.sh asks it, and writes down what it was asked.
ENGINE = """#!/bin/sh
echo "$0 $*" | sed 's#.*/##' >>"$ENGINE_LOG"
case "$*" in
    "compose version") exit "${NO_COMPOSE:-0}" ;;
    "image inspect"*) exit "${NO_IMAGE:-0}" ;;
    "run --rm orderstream:local "*) shift 3; exec orderstream "$@" ;;
esac
"""


@dataclass(frozen=True)
class Checkout:
    """A copy of what a user has, and a container engine that is none."""

    folder: Path
    bin: Path

    @property
    def asked(self) -> list[str]:
        """What the engine was asked, without the questions whether it is there."""
        log = self.folder / "engine.log"
        lines = log.read_text().splitlines() if log.exists() else []
        return [line for line in lines if not line.endswith(("compose version", "inspect"))]

    @property
    def dotenv(self) -> dict[str, str | None]:
        return dotenv_values(self.folder / ".env")

    def run(self, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Run entrypoint.sh."""
        own = {"PATH": f"{self.bin}:{PLAIN['PATH']}", "ENGINE_LOG": str(self.folder / "engine.log")}
        return subprocess.run(
            [self.folder / "entrypoint.sh", *arguments],
            cwd="/",
            env=PLAIN | own | env,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


@pytest.fixture(scope="session")
def commands() -> Iterator[Path]:
    """The folder of commands of an environment like the image's."""
    folder = Path(tempfile.mkdtemp(prefix="orderstream-test-image-"))
    yield install(folder)
    shutil.rmtree(folder)


@pytest.fixture
def checkout(tmp_path: Path, commands: Path) -> Checkout:
    """A checkout that was never used."""
    return checkout_in(tmp_path, commands)


def checkout_in(folder: Path, commands: Path) -> Checkout:
    """Make a checkout, with ports of its own."""
    copy_files(folder)
    bin = folder / "bin"
    bin.mkdir()
    for name in ("docker", "docker-compose", "podman"):
        (bin / name).write_text(ENGINE)
        (bin / name).chmod(0o755)
    (bin / "orderstream").symlink_to(commands / "orderstream")
    example = (folder / ".env.example").read_text()
    ports = (f"ORDERSTREAM_PORT_{name}={own_port()}\n" for name in SERVICES)
    (folder / ".env.example").write_text(example + "".join(ports))
    return Checkout(folder, bin)
