"""What a thousand listeners cost: orders/s end to end with none and with 1,000, in turn.

990 streams of one order each and 10 of all events, read by a process of its own; with and without
them the same load runs, turn about, seven times each, after once to warm up. The listeners would
be elsewhere: their process has the lowest priority here.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from bench.harness import (
    Broken,
    Figure,
    Installation,
    folder,
    installation,
    keep,
    rate,
    turn_about,
    verify,
)

OF_ONE, OF_ALL = 990, 10
ORDERS = 80_000
RUNS = 7

# Reads and forgets; says so once all are connected.
_LISTEN = """
import json, selectors, socket, sys

from orderstream.local.processes import stand_back

stand_back()
host, port, paths = json.loads(sys.argv[1])
listening = selectors.DefaultSelector()
for path in paths:
    client = socket.create_connection((host, port), 30)
    client.sendall(f"GET {path} HTTP/1.1\\r\\nHost: {host}\\r\\n"
        "Accept-Encoding: gzip\\r\\n\\r\\n".encode())
    head = client.recv(4096)
    assert b" 200 " in head.split(b"\\r\\n")[0], head
    listening.register(client, selectors.EVENT_READ)
print("listening", flush=True)
room = bytearray(1 << 20)
while True:
    for key, _ in listening.select():
        if not key.fileobj.recv_into(room):
            sys.exit("cut off")
"""


def run() -> list[Figure]:
    """Measure it."""
    with folder() as at, installation(at) as up:
        up.wait_until_ready()
        rate(up, ORDERS)
        paths = [f"/api/orders/{order_id}/events" for order_id in _some_orders(up)]
        paths += ["/api/events"] * OF_ALL
        without, beside, ratios = turn_about(
            up, ORDERS, RUNS, "listeners", lambda: _listeners(up, paths)
        )
        proof = verify(up.env)
    figures = [
        Figure("end to end without listeners, 64 connections", "orders/s", "", without),
        Figure("the same beside 1,000 listeners", "orders/s", "", beside),
        Figure("their ratio", "x", ">= 0.95", ratios),
    ]
    keep("listeners", figures, proof)
    return figures


def _some_orders(up: Installation) -> list[str]:
    found: list[str] = []
    cursor: str | None = None
    with httpx.Client(base_url=up.address("order"), timeout=30, trust_env=False) as client:
        while len(found) < OF_ONE:
            wanted: dict[str, str | int] = {"limit": 500} | ({"cursor": cursor} if cursor else {})
            page = client.get("/api/orders", params=wanted).json()
            found += [str(order["orderId"]) for order in page["orders"]]
            cursor = page["nextCursor"]
    return found[:OF_ONE]


@contextmanager
def _listeners(up: Installation, paths: list[str]) -> Iterator[None]:
    settings = up.settings
    target = json.dumps([settings.host, settings.port("order"), paths])
    process = subprocess.Popen(
        [sys.executable, "-c", _LISTEN, target], stdout=subprocess.PIPE, start_new_session=True
    )
    try:
        assert process.stdout is not None
        if process.stdout.readline() != b"listening\n":
            raise Broken("the listeners do not come up")
        yield
        if process.poll() is not None:
            raise Broken("the listeners were cut off")
    finally:
        process.kill()
        process.wait()
