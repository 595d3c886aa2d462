"""A whole installation on free ports in a folder of its own, load for it, and tables of figures."""

import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from shutil import rmtree
from typing import Any

import httpx
import psutil

from orderstream.flow import PROGRAMS, SERVICES
from orderstream.runtime.settings import Settings

UP_WITHIN_S = 120.0
DOWN_WITHIN_S = 40.0
CAUGHT_UP_WITHIN_S = 1_800.0  # 6,000,000 orders that only inventory has read take ten minutes.
COMMAND = (sys.executable, "-m", "orderstream")
RESULTS = Path(__file__).parent / "results"


class Broken(Exception):
    """Something that was to be measured did not work."""


@dataclass
class Figure:
    """One figure: what was measured in each run, beside what it must be."""

    name: str
    unit: str
    target: str
    runs: list[float]
    notes: list[str] = field(default_factory=list[str])

    def spread(self) -> tuple[float, float, float]:
        """Return the least, the median and the most."""
        return min(self.runs), statistics.median(self.runs), max(self.runs)


@dataclass
class Installation:
    """An `orderstream up` that runs: its process, environment and addresses."""

    process: subprocess.Popen[bytes]
    env: Mapping[str, str]
    home: Path
    began: float

    @property
    def settings(self) -> Settings:
        """The settings that its services run with, the local servers' addresses included."""
        from orderstream.local import kafka, postgres

        found = {
            "KAFKA_BOOTSTRAP_SERVERS": kafka.status(self.home).bootstrap_servers,
            "DATABASE_URL": postgres.status(self.home).dsn,
        }
        return Settings.load({**self.env, **found})

    def address(self, service: str) -> str:
        """Return the address of a service's API."""
        return Settings.load(self.env).address(service)

    def check_alive(self) -> None:
        """Raise Broken if `up` has ended."""
        if (code := self.process.poll()) is not None:
            raise Broken(f"`up` ended with {code}:\n{tail(self.home.parent / 'up.log')}")

    def wait_until_ready(self) -> None:
        """Return once every service is ready."""
        wait_until_ready([self.address(name) for name in SERVICES], self.check_alive)

    def python_processes(self) -> list[psutil.Process]:
        """Return our own processes: `up`, its watchdog and the services, not the servers."""
        top = psutil.Process(self.process.pid)
        ours = Path(psutil.Process().exe()).name
        return [p for p in [top, *top.children(recursive=True)] if _exe(p) == ours]

    def cpu_s(self) -> float:
        """Return the CPU seconds that our processes, Kafka and PostgreSQL have used."""
        from orderstream.local import kafka, postgres

        store = postgres.status(self.home).pid
        assert store is not None
        return tree_cpu_s(self.process.pid, store, *kafka.status(self.home).pids)


def tree_cpu_s(*pids: int) -> float:
    """Sum what processes have used, and their children that run or have ended."""
    every: dict[int, psutil.Process] = {}
    for pid in pids:
        top = psutil.Process(pid)
        every |= {process.pid: process for process in (top, *top.children(recursive=True))}
    used = 0.0
    for process in every.values():
        with suppress(psutil.NoSuchProcess):
            used += sum(process.cpu_times()[:4])  # The last two are of children that have ended.
    return used


def wait_until_ready(addresses: list[str], check: Callable[[], None] = lambda: None) -> None:
    """Return once these services are ready; `check` raises if they cannot be any more."""
    deadline = time.monotonic() + UP_WITHIN_S
    waiting = list(addresses)
    with httpx.Client(timeout=5, trust_env=False) as client:
        while waiting:
            check()
            if time.monotonic() > deadline:
                raise Broken(f"not ready within {UP_WITHIN_S:g} s: {', '.join(waiting)}")
            with suppress(httpx.TransportError):
                if client.get(f"{waiting[0]}/readyz").status_code == 200:
                    del waiting[0]
                    continue
            time.sleep(0.05)


def _exe(process: psutil.Process) -> str:
    try:
        return Path(process.exe()).name
    except psutil.Error:
        return ""


@contextmanager
def folder() -> Iterator[Path]:
    """Give a fresh folder for an installation, open to the user that PostgreSQL runs as."""
    path = Path(tempfile.mkdtemp(prefix="os-bench-"))
    path.chmod(0o755)
    try:
        yield path
    finally:
        data = (path / "home" / "postgres" / "data").resolve()
        rmtree(data.parent, ignore_errors=True)  # Elsewhere if PostgreSQL's user may not go here.
        rmtree(path, ignore_errors=True)


@contextmanager
def installation(at: Path) -> Iterator[Installation]:
    """Start `orderstream up` on free ports, its data in this folder; end it afterwards.

    It is not ready yet when this gives it: see `wait_until_ready`.
    """
    env = environment(at / "home")
    with (at / "up.log").open("ab") as log:
        began = time.perf_counter()
        process = subprocess.Popen(
            [*COMMAND, "up", "--quiet"],
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C is ours; we end it in order.
        )
    try:
        yield Installation(process, env, at / "home", began)
    finally:
        _end(process)


def environment(home: Path) -> dict[str, str]:
    """Return ours without its settings, for an installation in this folder on free ports."""
    ours = ("ORDERSTREAM_", "KAFKA_", "DATABASE_URL")
    env = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    names = [f"ORDERSTREAM_PORT_{name.upper()}" for name in (*PROGRAMS, "kafka")]
    ports = free_ports(len(names))
    env |= dict(zip(names, map(str, ports), strict=True))
    return env | {"ORDERSTREAM_HOME": str(home)}


def free_ports(count: int) -> list[int]:
    """Return ports that are free on this machine, each another."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(DOWN_WITHIN_S)
    except subprocess.TimeoutExpired:
        process.kill()  # Its watchdog ends the rest.
        process.wait()


def tail(path: Path) -> str:
    """Return the last lines of a log."""
    return "\n".join(path.read_text("utf-8", "replace").splitlines()[-15:])


# Load ----------------------------------------------------------------------------------------


def load(at: Installation, *options: str, all_placed: bool = True) -> dict[str, Any]:
    """Run `orderstream load` as a process of its own and return its report. Raises Broken.

    Also when an order could not be placed, unless that is expected.
    """
    done = _run(at.env, "load", "--json", *options)
    if done.returncode != 0 and (all_placed or not done.stdout.startswith("{")):
        raise Broken(f"`load {' '.join(options)}` ended with {done.returncode}:\n{_said(done)}")
    return json.loads(done.stdout)


def rate(at: Installation, orders: int) -> float:
    """Place so many orders over 64 connections, and return how many a second came to their end."""
    placed = load(at, "--orders", str(orders), "--connections", "64", "--until-decided")
    return placed["endToEndPerSecond"]


def turn_about(
    at: Installation, orders: int, runs: int, name: str, beside: Callable[[], Any]
) -> tuple[list[float], list[float], list[float]]:
    """Place orders without and beside something, in turn, after once with it to warm up.

    Returns the rates without, the rates beside, and what is left of each.
    """
    with beside():
        rate(at, orders)
    without: list[float] = []
    with_it: list[float] = []
    for _ in range(runs):
        without.append(rate(at, orders))
        with beside():
            with_it.append(rate(at, orders))
        say(f"{name}: without {without[-1]:,.0f}, beside {with_it[-1]:,.0f} orders/s")
    return without, with_it, [b / w for w, b in zip(without, with_it, strict=True)]


def verify(env: Mapping[str, str]) -> str:
    """Run `orderstream verify` and return its last line. Raises Broken if a promise is broken."""
    done = _run(env, "verify", "--wait", f"{CAUGHT_UP_WITHIN_S:g}")
    lines = done.stdout.strip().splitlines() or done.stderr.strip().splitlines() or [""]
    if done.returncode:
        raise Broken(f"verify: exit code {done.returncode}; {lines[-1]}")
    return f"verify: {lines[-1]}"


def _run(env: Mapping[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    process = subprocess.Popen(
        [*COMMAND, *arguments],
        env=dict(env) | {"COLUMNS": "250"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        out, err = process.communicate()
    except BaseException:
        process.kill()
        process.communicate()
        raise
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def _said(done: subprocess.CompletedProcess[str]) -> str:
    return (done.stderr.strip() or done.stdout.strip())[-1500:]


# Results -------------------------------------------------------------------------------------


def say(line: str) -> None:
    """Tell how far it is."""
    print(line, file=sys.stderr, flush=True)


def print_figures(figures: Sequence[Figure]) -> None:
    """Print each figure with its target beside it."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, header_style="bold")
    for heading in ("figure", "unit", "target", "min", "median", "max", "runs"):
        table.add_column(heading, justify="left" if heading in ("figure", "unit") else "right")
    for figure in figures:
        shown = (_number(value) for value in figure.spread())
        table.add_row(figure.name, figure.unit, figure.target, *shown, str(len(figure.runs)))
    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False)
    console.print(table)
    for figure in figures:
        for note in figure.notes:
            console.print(f"{figure.name}: {note}", markup=False, soft_wrap=True)


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2f}"


def keep(name: str, figures: Sequence[Figure], *proofs: str, **more: object) -> None:
    """Write the figures to results/NAME.json, with what else was measured.

    `proofs` are what `verify` said: said here, and again below the table, of the first figure.
    """
    for proof in proofs:
        say(f"{name}: {proof}")
    figures[0].notes.extend(proofs)
    RESULTS.mkdir(exist_ok=True)
    document = {
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": {
            "cores": psutil.cpu_count(),
            "memoryGiB": round(psutil.virtual_memory().total / 2**30, 1),
            "loadBefore": os.getloadavg(),
        },
        "figures": [figure.__dict__ for figure in figures],
        "verify": proofs,
        **more,
    }
    (RESULTS / f"{name}.json").write_text(json.dumps(document, indent=1) + "\n", "utf-8")
