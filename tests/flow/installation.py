"""A whole `orderstream up` of a test's own: data folder, ports, process."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.homes import remove
from tests.ports import own_port
from tests.waiting import until

COMMAND = (sys.executable, "-m", "orderstream")
SERVICES = ("order", "inventory", "view", "notification", "analytics")
UP_TIMEOUT_S = 90.0


@dataclass
class Installation:
    """What a user has on the screen after `orderstream up`."""

    home: Path
    env: dict[str, str]
    process: subprocess.Popen[bytes]
    log: Path
    command: Sequence[str] = COMMAND
    options: Sequence[str] = ()
    http: httpx.Client = field(default_factory=lambda: httpx.Client(timeout=10, trust_env=False))

    def url(self, service: str) -> str:
        return f"http://127.0.0.1:{self.env[f'ORDERSTREAM_PORT_{service.upper()}']}"

    def place(self, order: dict[str, Any], **headers: str) -> httpx.Response:
        return self.http.post(f"{self.url('order')}/api/orders", json=order, headers=headers)

    def page(self, order_id: int | str) -> dict[str, Any] | None:
        answer = self.http.get(f"{self.url('order')}/api/orders/{order_id}")
        return answer.json() if answer.status_code == 200 else None

    def decided(self, order_id: int | str) -> dict[str, Any]:
        """Return the order's page once it is decided."""

        def look() -> dict[str, Any] | None:
            page = self.page(order_id)
            return page if page and page["status"] != "PENDING" else None

        return until(look, what=f"order {order_id} decided")

    def run(self, *arguments: str, timeout_s: float = 90) -> subprocess.CompletedProcess[str]:
        """Run an `orderstream` command as a user would in another terminal."""
        return subprocess.run(
            [*self.command, *arguments],
            env=self.env,
            cwd=self.home,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def pid_of(self, service: str) -> int:
        """Return the process of a service."""

        def look() -> int | None:
            for child in psutil.Process(self.process.pid).children():
                with suppress(psutil.Error):  # It has ended meanwhile.
                    if child.cmdline()[-2:] == ["serve", service]:
                        return child.pid
            return None

        return until(look, what=f"{service} runs")

    def pid_of_kafka(self) -> int:
        state = json.loads((self.home / "kafka" / "state.json").read_text())
        return state["servers"][0]["pid"]

    def pid_of_postgres(self) -> int:
        return int((self.home / "postgres" / "data" / "postmaster.pid").read_text().split()[0])

    def everything(self) -> list[psutil.Process]:
        """Return every process of this installation, by the data folder in its environment."""
        found: list[psutil.Process] = []
        for process in psutil.process_iter():
            try:
                mine = str(self.home) in " ".join(
                    [*process.cmdline(), process.environ().get("ORDERSTREAM_HOME", "")]
                )
            except psutil.Error:
                continue
            if mine and process.pid != os.getpid() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        return found

    def up_again(self) -> None:
        """Run `orderstream up` with the same data, which has ended, once more."""
        self.process = _up(self.command, self.options, self.env, self.log)
        until(lambda: _is_up(self), UP_TIMEOUT_S, "orderstream is up again")

    def end(self, with_signal: int = signal.SIGINT) -> int:
        """Press Ctrl-C, and return the exit code; where it hangs, tell what it did."""
        self.process.send_signal(with_signal)
        try:
            return self.process.wait(20)
        except subprocess.TimeoutExpired:
            left = [one.pid for one in self.everything()]
            self.process.send_signal(signal.SIGABRT)  # It writes its stacks; its watchdog the rest.
            self.process.wait(20)
            logs = [self.log, *(self.home / "logs").glob("*.log")]
            said = [f"{log.name}: {log.read_text(errors='replace')[-3000:]}" for log in logs]
            raise AssertionError("\n".join([f"runs still: {left}", *said])) from None


@contextmanager
def installation(
    *options: str,
    command: Sequence[str] = COMMAND,
    home: Path | None = None,
    **settings: str,
) -> Generator[Installation]:
    """Run `orderstream up`, in its data folder, until the end of the block."""
    # Not under pytest's folder: PostgreSQL may run as another user, who cannot look in there.
    home = home or Path(tempfile.mkdtemp(prefix="orderstream-test-"))
    home.chmod(0o755)
    env = own_environment(home) | settings
    log = home / "up.log"
    process = _up(command, options, env, log)
    running = Installation(home, env, process, log, command, options)
    try:
        until(lambda: _is_up(running), UP_TIMEOUT_S, "orderstream is up")
        yield running
    finally:
        if running.process.poll() is None:
            running.end()
        running.http.close()
        remove(home)


def own_environment(home: Path) -> dict[str, str]:
    """Return an environment with this data folder, with ports of its own and none of a user's."""
    env = {name: value for name, value in os.environ.items() if not _ours(name)}
    env |= {"ORDERSTREAM_HOME": str(home), "COLUMNS": "200", "NO_COLOR": "1"}
    env["PYTHONFAULTHANDLER"] = "1"  # What hangs can be asked for its stacks, with SIGABRT.
    for port, name in enumerate((*SERVICES, "console", "kafka"), own_port()):
        env[f"ORDERSTREAM_PORT_{name.upper()}"] = str(port)
    return env


def _up(
    command: Sequence[str], options: Sequence[str], env: dict[str, str], log: Path
) -> subprocess.Popen[bytes]:
    with log.open("wb") as output:
        return subprocess.Popen(
            [*command, "up", *options],
            env=env,
            cwd=log.parent,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


def _ours(name: str) -> bool:
    return bool(re.match(r"ORDERSTREAM_(?!CACHE)|KAFKA_|DATABASE_URL|REDIS_URL", name))


def _is_up(running: Installation) -> bool:
    text = running.log.read_text()
    assert running.process.poll() is None, text
    return "orderstream is up" in text


class Load:
    """Orders from a few clients at once, each repeating what was not accepted, until `stop`.

    `urls` are of the order services, tried in turns; they may change meanwhile.
    """

    def __init__(self, *urls: str, clients: int = 8, products: int = 1, pause_s: float = 0) -> None:
        self.urls = list(urls)
        self._products = products
        self._pause_s = pause_s
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._client, args=(number,)) for number in range(clients)
        ]
        self.accepted: list[int | str] = []
        self.strange: list[str] = []

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def more(self, orders: int) -> None:
        """Wait until so many more are accepted."""
        so_far = len(self.accepted)
        until(lambda: len(self.accepted) >= so_far + orders, 600, f"{orders} more orders")

    def _client(self, number: int) -> None:
        with httpx.Client(timeout=10, trust_env=False) as http:
            for placed in count(1):
                if self._stopping.wait(self._pause_s):
                    return
                product = f"P-{placed % self._products}" if self._products > 1 else "P-1"
                body = {"orderId": f"load-{number}-{placed}", "productId": product, "quantity": 1}
                for attempt in count(number):
                    if self._place(http, self.urls[attempt % len(self.urls)], body):
                        break
                    self._stopping.wait(0.05)

    def _place(self, http: httpx.Client, url: str, body: dict[str, Any]) -> bool:
        try:
            answer = http.post(f"{url}/api/orders", json=body)
        except httpx.TransportError:  # The order service is being started again.
            return self._stopping.is_set()
        if answer.status_code == 202:
            self.accepted.append(answer.json()["orderId"])
            return True
        if answer.status_code != 503 or "retry-after" not in answer.headers:
            self.strange.append(f"{answer.status_code} {answer.text}")
        return self._stopping.is_set()
