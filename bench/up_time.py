"""From `orderstream up` to the first order CONFIRMED, with everything installed.

Each of three folders is used twice: once new (the database and the Kafka log are made then), once
with its data kept. The order is asked for every 20 ms from the first moment on, with
`Prefer: wait`, and counts when its answer says CONFIRMED.
"""

import time
from pathlib import Path

import httpx

from bench.harness import UP_WITHIN_S, Broken, Figure, folder, installation, keep, say, verify

RUNS = 3
BODY = b'{"userId":42,"items":[{"sku":"ABC-001","qty":1}]}'


def run() -> list[Figure]:
    """Measure it."""
    new: list[float] = []
    again: list[float] = []
    proofs: list[str] = []
    for _ in range(RUNS):
        with folder() as at:
            new.append(_first_confirmed(at, proofs))
            again.append(_first_confirmed(at, proofs))
        say(f"up_time: new {new[-1]:.2f} s, data kept {again[-1]:.2f} s")
    figures = [
        Figure("up to first order CONFIRMED, new", "s", "<= 10", new),
        Figure("up to first order CONFIRMED, data kept", "s", "<= 10", again),
    ]
    keep("up_time", figures, *proofs)
    return figures


def _first_confirmed(at: Path, proofs: list[str]) -> float:
    """Return the seconds it took; what `verify` says then is added to the proofs."""
    headers = {"prefer": "wait=5", "content-type": "application/json"}
    with installation(at) as up, httpx.Client(timeout=10, trust_env=False) as client:
        url = f"{up.address('order')}/api/orders"
        while time.perf_counter() - up.began < UP_WITHIN_S:
            up.check_alive()
            try:
                answer = client.post(url, content=BODY, headers=headers)
                if answer.status_code == 200 and answer.json()["status"] == "CONFIRMED":
                    after_s = time.perf_counter() - up.began
                    proofs.append(verify(up.env))
                    return after_s
            except httpx.TransportError:
                pass
            time.sleep(0.02)
    raise Broken(f"no order was confirmed within {UP_WITHIN_S:g} s")
