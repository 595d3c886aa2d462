"""The same flow in other frameworks, each measured beside ours in one run (see README.md).

Both run on one Kafka and one PostgreSQL, and the load goes to one of them at a time: after the runs
that warm up, ours and the peer's take turns. The ratios are of runs that came one after the other.
`ORDERS=3000` for a quick try; the slow peer gets a tenth of it.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg

from bench.harness import (
    Figure,
    Installation,
    folder,
    installation,
    keep,
    load,
    say,
    verify,
)
from bench.peers import builds
from bench.peers.peer import Command, Peer, running
from orderstream.runtime.settings import Settings

ORDERS = int(os.environ.get("ORDERS", "60000"))
CONNECTIONS = 256
RUNS = 3
OURS = "orderstream"
WARM_UP = "warm-up"
RATES = {"POST accepted": "acceptedPerSecond", "end to end": "endToEndPerSecond"}

Reports = dict[str, list[dict[str, Any]]]


def run() -> list[Figure]:
    """Measure it."""
    figures: list[Figure] = []
    reports: dict[str, Reports] = {}
    if not (peers := [peer for make in (_spring, _faststream) if (peer := _made(make))]):
        return []
    with folder() as at, installation(at) as up:
        up.wait_until_ready()
        say(f"peers: warming up orderstream with {ORDERS:,} orders")
        _ours(up)
        for peer in peers:
            reports[peer.name] = side_by_side(peer, up, at)
            figures += _figures(peer, reports[peer.name])
        proof = verify(up.env)
    keep("peers", figures, proof, reports=reports)
    return figures


def side_by_side(peer: Peer, up: Installation, at: Path) -> Reports:
    """Warm the peer up, then let the two take turns."""
    turns = (OURS, peer.name)
    reports: Reports = {name: [] for name in (WARM_UP, *turns)}
    with running(peer, up, at) as beside:
        for number in range(1, peer.warm_ups + 1):
            report = beside.load(peer.orders, CONNECTIONS)
            reports[WARM_UP].append(report)
            _tell(f"warm-up {number}", peer.name, report)
        for number in range(1, RUNS + 1):
            for name in turns:
                ours = name == OURS
                report = _ours(up) if ours else beside.load(peer.orders, CONNECTIONS)
                reports[name].append(report)
                _tell(f"run {number}", name, report)
    return reports


def _ours(up: Installation) -> dict[str, Any]:
    report = load(up, "--orders", str(ORDERS), "--connections", str(CONNECTIONS), "--until-decided")
    up.check_alive()
    return report


def _tell(which: str, name: str, report: dict[str, Any]) -> None:
    rates = ", ".join(f"{shown} {report[rate]:,.0f}/s" for shown, rate in RATES.items())
    say(f"peers: {which}: {name}: {rates}")


def _figures(peer: Peer, reports: Reports) -> list[Figure]:
    figures: list[Figure] = []
    for shown, rate in RATES.items():
        ours, theirs = ([r[rate] for r in reports[name]] for name in (OURS, peer.name))
        ratios = [mine / other for mine, other in zip(ours, theirs, strict=True)]
        figures += [
            Figure(f"{shown}, orderstream beside {peer.name}", "orders/s", "", ours),
            Figure(f"{shown}, {peer.name}", "orders/s", "", theirs),
            Figure(f"  ratio to {peer.name}, {shown}", "x", peer.targets.get(shown, ""), ratios),
        ]
    return figures


# The peers -----------------------------------------------------------------------------------


def _made(make: Callable[[], Peer]) -> Peer | None:
    try:
        return make()
    except builds.Missing as why:
        say(f"peers: {make.__name__.strip('_')} is left out: {why}")
        return None


def _spring() -> Peer:
    java, jar = builds.spring()

    def command(service: str, port: int, settings: Settings) -> Command:
        options = {
            "spring.profiles.active": service,
            "server.port": port,
            "spring.kafka.bootstrap-servers": settings.kafka()["bootstrap.servers"],
            "partitions": settings.partitions,
        }
        return [java, "-Xmx512m", "-jar", jar, *(f"--{k}={v}" for k, v in options.items())], {}

    return Peer(
        name="Spring Boot",
        topics="peer-spring",
        folder=jar.parent,
        command=command,
        orders=ORDERS,
        warm_ups=5,  # Its best comes that late: the JVM compiles what is used often.
        targets={"POST accepted": ">= 0.9"},
    )


def _faststream() -> Peer:
    python = builds.faststream()

    def command(service: str, port: int, settings: Settings) -> Command:
        module = {"order": "orders"}.get(service, service)
        quiet = ("--no-access-log", "--log-level", "warning")
        env = {
            "KAFKA_BOOTSTRAP_SERVERS": settings.kafka()["bootstrap.servers"],
            "DATABASE_URL": _own_database(settings.dsn(), "faststream"),
        }
        return [python, "-m", "uvicorn", f"{module}:app", "--port", str(port), *quiet], env

    return Peer(
        name="FastStream",
        topics="peer-faststream",
        folder=builds.FASTSTREAM,
        command=command,
        orders=max(ORDERS // 10, 1),
        warm_ups=1,
        targets={"end to end": ">= 30"},
    )


def _own_database(dsn: str, name: str) -> str:
    """Make a database of its own on the same server; return its address for SQLAlchemy."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        if not connection.execute(
            "SELECT 1 FROM pg_database WHERE datname = %s", (name,)
        ).fetchone():
            connection.execute(f'CREATE DATABASE "{name}"'.encode())
    address = urlsplit(dsn)
    return address._replace(scheme="postgresql+asyncpg", path=f"/{name}").geturl()
