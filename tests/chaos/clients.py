"""Who uses the installation meanwhile: a steady load, and a few who come back to their orders."""

import json
import random
import subprocess
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx

from tests.flow.installation import Installation

CONNECTIONS = "32"
SECONDS_MAX = "3600"
PAUSE_S = 0.04
KEPT = 200  # So many of their latest orders are come back to.
FINE = frozenset((200, 202))
SCARCE, SCARCE_ON_HAND = "SCARCE-1", 5  # Soon gone, and then refused at the door.


class SteadyLoad:
    """`orderstream load` by timetable, in a process of its own, until `stop`."""

    def __init__(self, running: Installation, rate: float) -> None:
        self._running = running
        self._rate = rate
        self.answers = running.home / "accepted"
        self.reports: list[dict[str, Any]] = []
        self._stopping = threading.Event()
        self._process: subprocess.Popen[str] | None = None
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "SteadyLoad":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()  # Softly: orders under way are waited for.
        self._thread.join(60)
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._thread.join()

    def _run(self) -> None:
        """It gives up after 30 s without an accepted order: so it is begun again."""
        while not self._stopping.is_set():
            options = ("--rate", str(self._rate), "--seconds", SECONDS_MAX)
            options += ("--connections", CONNECTIONS, "--accepted", str(self.answers), "--json")
            with (self._running.home / "load.log").open("a") as errors:
                self._process = subprocess.Popen(
                    [*self._running.command, "load", *options],
                    env=self._running.env,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    text=True,
                    start_new_session=True,
                )
                said, _ = self._process.communicate()
            if said:
                self.reports.append(json.loads(said))
            self._stopping.wait(0.2)

    def accepted(self) -> set[str]:
        """Return the ids of the orders that were accepted."""
        return ids_of(self.answers)

    def violations(self) -> list[str]:
        """Return the answers that no client should get."""
        found: list[str] = []
        for report in self.reports:
            strange = {s: n for s, n in report["answers"].items() if int(s) not in {*FINE, 503}}
            if strange or report["notPlaced"]["refused"]:
                found.append(f"load was answered {report['answers']}: {report['firstTrouble']}")
        return found


def ids_of(file: Path) -> set[str]:
    """Return the ids in a file of answers; a last line that is cut off is none."""
    if not file.exists():
        return set()
    lines = file.read_text("utf-8").split("\n")[:-1]
    return {str(json.loads(line)["orderId"]) for line in lines}


class Regulars:
    """Places orders of their own ids and comes back: repeats, changes, cancels, fulfils, looks."""

    def __init__(self, running: Installation, seed: int) -> None:
        self._url = f"{running.url('order')}/api/orders"
        self._stock = f"{running.url('inventory')}/api/stock"
        self._chance = random.Random(seed)
        self._seed = seed
        self.accepted: dict[str, dict[str, Any]] = {}
        self.refused: set[str] = set()  # Their goods were gone: these never were orders.
        self.ended: dict[str, str] = {}  # What they were told for good.
        self.strange: list[str] = []
        self.did: Counter[str] = Counter()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Regulars":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def put_on_the_shelf(self) -> None:
        """Have a few of what will soon be sold out."""
        said = {"onHand": SCARCE_ON_HAND}
        httpx.put(
            f"{self._stock}/{SCARCE}", json=said, timeout=10, trust_env=False
        ).raise_for_status()

    def _run(self) -> None:
        visits = (self._place, self._place, self._repeat, self._change, self._end, self._look)
        with httpx.Client(timeout=30, trust_env=False) as http:
            while not self._stopping.wait(PAUSE_S):
                self._chance.choice(visits)(http)

    def _place(self, http: httpx.Client) -> None:
        """Send a new order until it is accepted, as a client has to."""
        order_id = f"regular-{self._seed}-{self.did['order']}"
        sku = self._chance.choices((SCARCE, "FAIL", "P-1"), (0.15, 0.03, 0.82))[0]
        body = {"orderId": order_id, "productId": sku, "quantity": self._chance.randint(1, 3)}
        self.did["order"] += 1
        while (answer := self._send(http, body, {200, 202, 409})) is None:
            if self._stopping.wait(0.1):
                return
        if answer.status_code in FINE:
            self.accepted[order_id] = body
        elif sku == SCARCE and answer.json()["type"].endswith("out-of-stock"):
            self.refused.add(order_id)
            self.did["refused"] += 1
        else:
            self.strange.append(f"{order_id}: {answer.text}")

    def _repeat(self, http: httpx.Client) -> None:
        if body := self._some():
            self._send(http, body, {200, 202})
            self.did["repeat"] += 1

    def _change(self, http: httpx.Client) -> None:
        if body := self._some():
            self._send(http, {**body, "quantity": 99}, {409})
            self.did["conflict"] += 1

    def _end(self, http: httpx.Client) -> None:
        if body := self._some():
            what = self._chance.choice(("cancel", "fulfil"))
            # 404: accepted, but the view, which is under fire too, has not seen it yet.
            answer = self._send(http, None, {200, 202, 404, 409}, f"/{body['orderId']}/{what}")
            if answer is not None and answer.status_code in FINE:
                self.ended[body["orderId"]] = answer.json()["status"]
            self.did[what] += 1

    def _look(self, http: httpx.Client) -> None:
        if body := self._some():
            try:
                answer = http.get(f"{self._url}/{body['orderId']}")
            except httpx.TransportError:
                return
            self._check(answer, {200, 404})
            self.did["look"] += 1

    def _some(self) -> dict[str, Any] | None:
        latest = list(self.accepted)[-KEPT:]
        return self.accepted[self._chance.choice(latest)] if latest else None

    def _send(
        self, http: httpx.Client, body: dict[str, Any] | None, fine: set[int], path: str = ""
    ) -> httpx.Response | None:
        try:
            answer = http.post(self._url + path, json=body)
        except httpx.TransportError:  # The order service is being started again.
            return None
        return answer if self._check(answer, fine) else None

    def _check(self, answer: httpx.Response, fine: set[int]) -> bool:
        if answer.status_code in fine:
            return True
        if answer.status_code != 503 or "retry-after" not in answer.headers:
            at, request = time.strftime("%H:%M:%S"), answer.request
            said = f"{request.method} {request.url.path}: {answer.status_code} {answer.text[:300]}"
            self.strange.append(f"{at} {said}")
        return False
