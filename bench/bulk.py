"""Orders/s through one connection: one request of many lines, answered while it is sent.

First the order service runs alone beside Kafka and PostgreSQL, then with all the others, which have
caught up before each run. One thread sends lines made before, another reads the answers; all are
looked at afterwards: every line accepted, in order, no id twice. `verify` runs at the end.
`ORDERS=1000000` for more.
"""

import os
import socket
import subprocess
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass

import msgspec
import psutil

from bench.drain import MANY, all_stages, cpu_of, left_of, servers, serving
from bench.harness import (
    CAUGHT_UP_WITHIN_S,
    Broken,
    Figure,
    folder,
    keep,
    say,
    verify,
    wait_until_ready,
)
from orderstream.flow import flow
from orderstream.runtime.admin import Admin
from orderstream.runtime.settings import Settings

ORDERS = int(os.environ.get("ORDERS", "200000"))
WARM_UP_ORDERS = 20_000
RUNS = 3
PIECE = 1_000  # Lines sent at once.
ANSWERED_WITHIN_S = 120.0
LOOK_EVERY_S = 0.05
MIB = 1 << 20
US = 1_000_000


@dataclass(frozen=True)
class Sent:
    """What one run came to; CPU in microseconds for each order, by who used it."""

    orders_per_s: float
    cpu_us: dict[str, float]
    rss_mib: float


class Answer(msgspec.Struct):
    """As much of a line's answer as is looked at."""

    line: int
    status: int
    orderId: int


def run() -> list[Figure]:
    """Measure it."""
    runs: dict[str, list[Sent]] = {}
    with folder() as at, servers(at) as (settings, env), ExitStack() as stack:
        service = stack.enter_context(serving("order", settings, env, 0))
        wait_until_ready([settings.address("order")])
        send(settings, service, WARM_UP_ORDERS)
        runs["order service alone"] = [_told(settings, service, "alone") for _ in range(RUNS)]
        stack.enter_context(all_stages(settings, env))
        beside = runs["with all services"] = []
        for _ in range(RUNS):
            _until_caught_up(settings)
            beside.append(_told(settings, service, "with all services"))
        proof = verify(env)
    figures: list[Figure] = []
    for name, sent in runs.items():
        rates = [one.orders_per_s for one in sent]
        figures.append(Figure(f"bulk, one connection, {name}", "orders/s", ">= 20,000", rates))
        for who in sent[0].cpu_us:
            cpu = [one.cpu_us[who] for one in sent]
            figures.append(Figure(f"  CPU of {who}", "us/order", "", cpu))
        sizes = [one.rss_mib for one in sent]
        figures.append(Figure("  peak RSS of the order service", "MiB", "", sizes))
    keep("bulk", figures, proof, orders=ORDERS)
    return figures


def _told(settings: Settings, service: subprocess.Popen[bytes], how: str) -> Sent:
    sent = send(settings, service, ORDERS)
    cpu = ", ".join(f"{who} {us:.1f}" for who, us in sent.cpu_us.items())
    say(f"bulk: {how}: {sent.orders_per_s:,.0f} orders/s; us: {cpu}; {sent.rss_mib:.0f} MiB")
    return sent


def send(settings: Settings, service: subprocess.Popen[bytes], orders: int) -> Sent:
    """Send so many orders in one request and check their answers. Raises Broken."""
    lines = [_line(n % len(MANY)) for n in range(PIECE)]
    piece = b"".join(lines)
    pieces = orders // PIECE
    with socket.create_connection(("127.0.0.1", settings.port_order), 10) as client:
        client.settimeout(ANSWERED_WITHIN_S)
        head = (
            "POST /api/orders:bulk HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
            f"Content-Type: application/x-ndjson\r\nContent-Length: {pieces * len(piece)}\r\n\r\n"
        )
        watching = _Watching(service.pid)
        before, began = cpu_of([service], settings), time.perf_counter()
        sending = threading.Thread(target=_send_all, args=(client, head.encode(), piece, pieces))
        sending.start()
        came: list[bytes] = []
        while part := client.recv(1 << 18):
            came.append(part)
        took = time.perf_counter() - began
        after = cpu_of([service], settings)
        sending.join()
        most = watching.end()
    count = pieces * PIECE
    _check(b"".join(came), count)
    return Sent(count / took, {who: (after[who] - before[who]) * US / count for who in after}, most)


def _line(number: int) -> bytes:
    order = {"userId": number + 1, "items": [{"sku": MANY[number], "qty": 1}]}
    return msgspec.json.encode(order) + b"\n"


def _send_all(client: socket.socket, head: bytes, piece: bytes, pieces: int) -> None:
    client.sendall(head)
    for _ in range(pieces):
        client.sendall(piece)


def _check(came: bytes, count: int) -> None:
    head, _, rest = came.partition(b"\r\n\r\n")
    if b" 200 " not in head.partition(b"\r\n")[0]:
        raise Broken(f"the request was refused: {came[:500]!r}")
    answers = msgspec.json.Decoder(Answer).decode_lines(_unchunked(rest))
    if [one.line for one in answers] != list(range(1, count + 1)):
        raise Broken(f"{len(answers):,} answers to {count:,} lines, or not in order")
    if any(one.status != 202 for one in answers):
        raise Broken("not every line was accepted")
    if len({one.orderId for one in answers}) != count:
        raise Broken("an id was given twice")


def _unchunked(rest: bytes) -> bytes:
    parts: list[bytes] = []
    at = 0
    while True:
        end = rest.index(b"\r\n", at)
        size = int(rest[at:end], 16)
        if not size:
            return b"".join(parts)
        parts.append(rest[end + 2 : end + 2 + size])
        at = end + 2 + size + 2


class _Watching:
    """Looks again and again how large a process is."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._most = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def _watch(self) -> None:
        while not self._over.wait(LOOK_EVERY_S):
            self._most = max(self._most, self._process.memory_info().rss)

    def end(self) -> float:
        """Return the most that was seen, in MiB."""
        self._over.set()
        self._thread.join()
        return self._most / MIB


def _until_caught_up(settings: Settings) -> None:
    """Wait until no service has anything left to read."""
    admin = Admin(settings.kafka())
    deadline = time.monotonic() + CAUGHT_UP_WITHIN_S
    steps = [step for step in flow(settings.topics) if step.reads]
    while any(
        left_of(admin, settings.group(step.service), step.reads, settings.topics) for step in steps
    ):
        if time.monotonic() > deadline:
            raise Broken("the services do not catch up")
        time.sleep(0.5)
