"""The order service as a process of its own, and what it writes to the log."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import psutil
from confluent_kafka import Message
from pydantic import SecretStr

from orderstream.order_view.rules import Seen, fold
from orderstream.order_view.store_postgres import PostgresView
from orderstream.runtime.database import Database
from orderstream.runtime.settings import Settings
from tests.kafka.topics import read
from tests.ports import own_port
from tests.waiting import until

ITEMS: dict[str, Any] = {"userId": 42, "items": [{"sku": "ABC-001", "qty": 2}]}
PRODUCT: dict[str, Any] = {"orderId": "1001", "productId": "P-1", "quantity": 2}
ITEM: dict[str, Any] = {"order_id": "1002", "user_id": "u1", "item": "laptop", "quantity": 1}


class OrderService:
    """`orderstream serve order` on a free port."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.settings = settings.model_copy(update={"port_order": own_port()})
        self.url = self.settings.address("order")
        # Used by many threads at once: httpx may close a connection that it has just given to one
        # of them, when more are idle than it keeps, or one has been for too long. So it keeps all.
        limits = httpx.Limits(keepalive_expiry=None)
        self.http = httpx.Client(base_url=self.url, timeout=60, trust_env=False, limits=limits)
        self._log = folder / "order.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and return when it is ready."""
        ours = re.compile(r"ORDERSTREAM_(?!CACHE)|KAFKA_|DATABASE_URL")
        env = {name: value for name, value in os.environ.items() if not ours.match(name)}
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "orderstream", "serve", "order"],
                env=env | environment(self.settings),
                cwd=self._log.parent,
                stdout=log,
                stderr=log,
            )
        until(self.ready, what="the order service is ready")

    def ready(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self._log.read_text()
        try:
            return self.http.get("/readyz").status_code == 200
        except httpx.TransportError:
            return False

    def end(self, with_signal: signal.Signals = signal.SIGTERM) -> None:
        """End it with this signal, if it runs, and wait for it."""
        if self._process is not None:
            self._process.send_signal(with_signal)
            self._process.wait(20)
            self._process = None

    def rss(self) -> int:
        """Return how many bytes of memory it has."""
        assert self._process is not None
        return psutil.Process(self._process.pid).memory_info().rss

    def children(self) -> list[psutil.Process]:
        """Return the processes that it started."""
        assert self._process is not None
        return psutil.Process(self._process.pid).children()

    def place(self, order: dict[str, Any], **headers: str) -> httpx.Response:
        """Place an order as a client does: again, where it was not accepted for want of time.

        On a machine with much else to do PostgreSQL may take longer than the service waits.
        """

        def settled() -> httpx.Response | None:
            answer = self.post(order, **headers)
            return None if answer.status_code == 503 and not_accepted(answer) else answer

        return until(settled, what="Kafka and PostgreSQL are there")

    def post(self, order: dict[str, Any], **headers: str) -> httpx.Response:
        """Send an order once, and return whatever is answered."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.http.post("/api/orders", json=order, headers=named)

    def records(self, order_id: int | str) -> list[Message]:
        """Return what stands in the log of this order."""
        key = str(order_id).encode()
        return [record for record in self.log() if record.key() == key]

    def log(self) -> list[Message]:
        return read(self.settings, self.settings.topics.order_created)

    def show(self, events: Sequence[Seen]) -> None:
        """Fold events into the order view, as its service would."""
        database = Database(self.settings.dsn(), "order_view")
        with closing(database), database.transaction() as tx:
            PostgresView(database).fold_in(tx, fold(events).values())


def environment(settings: Settings) -> dict[str, str]:
    """Return the variables that give these settings."""
    found: dict[str, str] = {}
    for name, field in Settings.model_fields.items():
        value = getattr(settings, name)
        if isinstance(value, SecretStr):
            value = value.get_secret_value()
        if value is not None:
            found[str(field.validation_alias)] = str(value)
    return found


def not_accepted(answer: httpx.Response) -> bool:
    """Tell whether a 503 says so, and not that nobody knows."""
    return problem_of(answer)[1] in ("unavailable", "overloaded")


def problem_of(answer: httpx.Response) -> tuple[int, str]:
    """Return the status and the kind of a problem, which says so of itself."""
    assert answer.headers["content-type"] == "application/problem+json"
    document = answer.json()
    assert document["status"] == answer.status_code
    assert document["title"]
    assert document["detail"]
    assert "Traceback" not in answer.text
    return answer.status_code, document["type"].removeprefix("urn:orderstream:problem:")
