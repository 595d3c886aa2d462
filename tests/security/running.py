"""`orderstream` as processes of its own, with nothing set but what a test gives."""

import os
import re
import subprocess
import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.waiting import until

_OURS = re.compile(r"ORDERSTREAM_(?!CACHE)|KAFKA_|DATABASE_URL")


def environment(given: Mapping[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not _OURS.match(name)}
    return {**kept, **given}


def run(
    given: Mapping[str, str], *arguments: str, folder: Path, stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run one command to its end, in a folder without a `.env`."""
    return subprocess.run(
        [sys.executable, "-m", "orderstream", *arguments],
        env=environment(given),
        cwd=folder,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
    )


@contextmanager
def serving(
    given: Mapping[str, str], services: Mapping[str, str], folder: Path
) -> Generator[dict[str, subprocess.Popen[bytes]]]:
    """Run services, each until it is ready at its address, and end them; logs are `NAME.log`."""
    with starting(given, list(services), folder) as processes:
        for name, address in services.items():
            until(lambda at=address: _ready(at), what=f"{name} is ready")
        yield processes


@contextmanager
def starting(
    given: Mapping[str, str], services: Sequence[str], folder: Path
) -> Generator[dict[str, subprocess.Popen[bytes]]]:
    """Start services and end them."""
    processes: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for name in services:
            with (folder / f"{name}.log").open("ab") as log:
                processes[name] = subprocess.Popen(
                    [sys.executable, "-m", "orderstream", "serve", name],
                    env=environment(given),
                    cwd=folder,
                    stdout=log,
                    stderr=log,
                )
        yield processes
    finally:
        for process in processes.values():
            process.terminate()
        for process in processes.values():
            process.wait(20)


def _ready(address: str) -> bool:
    try:
        return httpx.get(f"{address}/readyz", timeout=3, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False
