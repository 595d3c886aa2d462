"""`demo`: the whole promise in one go, from an empty installation to the audit."""

import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from contextlib import chdir
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from uuid import uuid4

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from orderstream.cli.app import app
from orderstream.cli.output import key_headers
from orderstream.contract.errors import OrderstreamError
from orderstream.flow import PROGRAMS

if TYPE_CHECKING:
    from orderstream.runtime.settings import Settings

DECIDED_TIMEOUT_S = 30.0
EVERY_S = 1.0

console = Console(highlight=False)

# What is ordered, and what must become of it. RARE-1 has three pieces on the shelf.
ORDERS: tuple[tuple[str, dict[str, Any], str], ...] = (
    (
        "two lines",
        {"userId": 1, "items": [{"sku": "MUG", "qty": 2}, {"sku": "T-SHIRT", "qty": 1}]},
        "CONFIRMED",
    ),
    ("one product", {"orderId": "demo-1", "productId": "P-1", "quantity": 2}, "CONFIRMED"),
    (
        "one item",
        {"order_id": "demo-2", "user_id": "u1", "item": "laptop", "quantity": 1},
        "CONFIRMED",
    ),
    (
        "one SKU on two lines",
        {"userId": 2, "items": [{"sku": "RARE-1", "qty": 2}, {"sku": "RARE-1", "qty": 2}]},
        "REJECTED",
    ),
    ("the last pieces", {"userId": 2, "items": [{"sku": "RARE-1", "qty": 3}]}, "CONFIRMED"),
    ("one piece too many", {"userId": 3, "items": [{"sku": "RARE-1", "qty": 1}]}, "REJECTED"),
    ("a SKU nobody sells", {"userId": 3, "items": [{"sku": "NOPE", "qty": 1}]}, "REJECTED"),
    ("the drill", {"userId": 4, "items": [{"sku": "FAIL", "qty": 1}]}, "FAILED"),
    ("an order behind the drill", {"userId": 4, "items": [{"sku": "MUG", "qty": 1}]}, "CONFIRMED"),
)
# Partitions are read side by side: who wants to come first waits for the decision.
WAITED_FOR = "the last pieces"


@app.command()
def demo(
    seconds: Annotated[
        float, typer.Option(help="How long an order may take to be decided.")
    ] = DECIDED_TIMEOUT_S,
) -> None:
    """Bring everything up on empty data, place a mix of orders, watch them, verify, stop.

    Uses a data folder and ports of its own. Ends with 0 only if every order came out as it must
    and the audit found nothing.
    """
    with tempfile.TemporaryDirectory(prefix="orderstream-demo-") as folder:
        Path(folder).chmod(0o755)  # PostgreSQL may run as another user.
        with chdir(folder):  # Away from a `.env`, which the services would read.
            held = _run(Path(folder), seconds)
    console.print(
        "[bold green]Everything held.[/]" if held else "[bold red]Not everything held.[/]"
    )
    sys.exit(0 if held else 1)


def keep_placing(settings: "Settings", stopping: threading.Event) -> None:
    """Place one of these orders every second, for screens to have something to show.

    A service that is away is tried again with the next order.
    """
    import httpx

    order, signed = settings.address("order"), key_headers(settings)
    with httpx.Client(base_url=order, timeout=5, trust_env=False, headers=signed) as client:
        for _, body, _ in cycle(ORDERS):
            if stopping.wait(EVERY_S):
                return
            new_id = f"demo-{uuid4().hex[:12]}"
            fresh = body | {name: new_id for name in ("orderId", "order_id") if name in body}
            try:
                client.post("/api/orders", json=fresh).raise_for_status()
            except httpx.HTTPError as error:
                console.print(f"[yellow]a demo order was not placed:[/] {escape(str(error))}")


def without_settings(given: Mapping[str, str]) -> dict[str, str]:
    """Return an environment with nothing in it that is meant for another installation."""
    from orderstream.runtime.settings import Settings

    ours = {str(field.validation_alias) for field in Settings.model_fields.values()}
    return {name: value for name, value in given.items() if name not in ours}


def _run(home: Path, seconds: float) -> bool:
    from orderstream.cli import settings as cli_settings
    from orderstream.cli.up import everything, show_nothing
    from orderstream.local.processes import free_port

    given = without_settings(cli_settings.mapping()) | {"ORDERSTREAM_HOME": str(home)}
    port = 18_080
    for name in (*PROGRAMS, "kafka"):  # Kafka last: its controller takes the next one.
        port = free_port(port + 1)
        given[f"ORDERSTREAM_PORT_{name.upper()}"] = str(port)
    stopping = threading.Event()
    console.print("Starting Kafka, PostgreSQL and the services on empty data ...")
    with everything(given, 1, {}, show_nothing, stopping) as running:
        console.print(f"Up after {running.seconds:.1f} s.\n")
        watching = threading.Thread(target=running.supervise, args=(stopping,))
        watching.start()
        try:
            placed = _place(running.settings.address("order"), seconds)
            console.print("\nVerifying: log and stores against every promise ...")
            return _verified(running.settings) and placed
        finally:
            stopping.set()
            watching.join()


def _place(order: str, seconds: float) -> bool:
    import httpx

    table = Table(
        Column("order", no_wrap=True),
        "id",
        "status",
        "must be",
        "reason",
        "after",
        box=None,
        padding=(0, 2),
    )
    held = True
    with httpx.Client(base_url=order, timeout=seconds, trust_env=False) as client:
        began = time.monotonic()
        ids: list[str] = []
        for what, body, _ in ORDERS:
            prefer = {"Prefer": f"wait={seconds:.0f}"} if what == WAITED_FOR else {}
            answer = client.post("/api/orders", json=body, headers=prefer)
            answer.raise_for_status()
            ids.append(str(answer.json()["orderId"]))
        waiting = dict(zip(ids, ORDERS, strict=True))
        pages: dict[str, tuple[dict[str, Any], float]] = {}
        while waiting and time.monotonic() - began < seconds:
            for order_id in list(waiting):
                answer = client.get(f"/api/orders/{order_id}")
                if answer.status_code == 200 and answer.json()["status"] != "PENDING":
                    pages[order_id] = answer.json(), time.monotonic() - began
                    del waiting[order_id]
            time.sleep(0.02)
    for order_id, (what, _, must_be) in zip(ids, ORDERS, strict=True):
        page, after = pages.get(order_id, ({"status": "PENDING"}, seconds))
        right = page["status"] == must_be
        held = held and right
        status = f"[{'green' if right else 'bold red'}]{page['status']}[/]"
        reason = escape(page.get("reason", ""))
        table.add_row(what, order_id, status, must_be, reason, f"{after:.2f} s")
    console.print(table)
    return held


def _verified(settings: Any) -> bool:
    from orderstream.audit.verify import verify

    try:
        report = verify(settings, wait_s=30.0, progress=None)
    except OrderstreamError as error:
        console.print(f"[red]{escape(str(error))}[/]")
        return False
    for violation in report.violations:
        console.print(f"[red]{escape(str(violation))}[/]")
    console.print(f"{report.orders} orders, {len(report.violations)} violations.")
    return not report.violations
