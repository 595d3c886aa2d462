"""Everything at once, with a secret in every place: all works, and none of them is told to anybody.

Kafka by SCRAM and TLS, PostgreSQL by TLS, HTTP by keys; then the same with what is wrong or away.
"""

import json
import subprocess
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from orderstream.flow import PROGRAMS
from orderstream.runtime.keys import new_key
from orderstream.runtime.settings import Settings
from tests.ports import own_port
from tests.security import brokers, databases
from tests.security.brokers import SecureKafka
from tests.security.certificates import KEY_PASSWORD
from tests.security.running import run, serving, starting
from tests.waiting import until

BOSS, BOSS_ENTRY = new_key("boss", "operator")
SHOP, SHOP_ENTRY = new_key("shop", "client")
WRONG = "wrong-secret-71"
SECRETS = (
    *(brokers.PASSWORD, databases.PASSWORD, KEY_PASSWORD, BOSS, SHOP, WRONG),
    *(BOSS_ENTRY.digest.hex(), SHOP_ENTRY.digest.hex()),
)

# What each command is asked, and what it then says if all is well.
COMMANDS: tuple[tuple[list[str], str], ...] = (
    (["topics", "list"], "order.created"),
    (["consume", "order.created", "--from", "beginning"], "o-1"),
    (["dlt", "list"], ""),
    (["lag", "--json"], "inventory.reserved"),
    (["doctor"], "1 broker"),
    (["config", "--json"], "sslmode=verify-full"),
    (["db", "migrate"], "up to date"),
    (["order", "list"], "o-1"),
    (["stock", "list", "--all"], "MUG"),
    (["load", "--orders", "50", "--until-decided"], ""),
    (["replay", "view", "--to", "beginning", "--dry-run"], ""),
    (["verify"], "every promise holds"),
)
ASKED_OF_A_FAULT = (["doctor"], ["config"], ["verify"])


def holding(text: str) -> list[str]:
    """Return which of the secrets stand in a text."""
    return [secret for secret in SECRETS if secret in text]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("secrets")


@pytest.fixture(scope="module")
def given(secure_kafka: SecureKafka, secure_dsn: str) -> dict[str, str]:
    """Every secret setting there is."""
    certificate = secure_kafka.settings("mutual")
    settings = {name: value for name, value in certificate.items() if "_SSL_" in name}
    settings |= secure_kafka.settings("scram")
    settings |= {
        "DATABASE_URL": secure_dsn,
        "ORDERSTREAM_API_KEYS": f"{BOSS_ENTRY},{SHOP_ENTRY}",
        "ORDERSTREAM_API_KEY": BOSS,
        "ORDERSTREAM_LOG_LEVEL": "DEBUG",
    }
    for port, name in enumerate(PROGRAMS, own_port()):
        settings[f"ORDERSTREAM_PORT_{name.upper()}"] = str(port)
    return settings


@pytest.fixture(scope="module")
def addresses(given: dict[str, str], folder: Path) -> Iterator[dict[str, str]]:
    """Where the services are, which have processed an order and refused some requests."""
    settings = Settings.load(given)
    found = {name: settings.address(name) for name in PROGRAMS}
    with serving(given, found, folder) as processes:
        signed = {"authorization": f"Bearer {BOSS}"}
        stock = httpx.put(f"{found['inventory']}/api/stock/MUG", json={"onHand": 9}, headers=signed)
        assert stock.status_code == 200
        placed = httpx.post(
            f"{found['order']}/api/orders",
            json={"orderId": "o-1", "productId": "MUG", "quantity": 2},
            headers={"Prefer": "wait=20", "X-API-Key": SHOP},
            timeout=25,
        )
        assert placed.json()["status"] == "CONFIRMED"
        for key in (SHOP, SHOP[:-1] + "x", WRONG):
            for path in (f"/api/orders/{key}", "/api/stock", f"/api/orders?userId={key}"):
                answer = httpx.get(found["order"] + path, headers={"x-api-key": key})
                assert answer.status_code in (200, 401, 404)
        lines = [psutil.Process(process.pid).cmdline() for process in processes.values()]
        assert holding(str(lines)) == []
        yield found


def all_of(
    given: dict[str, str], commands: Sequence[list[str]], folder: Path
) -> list[subprocess.CompletedProcess[str]]:
    with ThreadPoolExecutor(3) as pool:
        return list(pool.map(lambda words: run(given, *words, folder=folder), commands))


def test_all_works_and_nothing_is_told(
    given: dict[str, str], addresses: dict[str, str], folder: Path
) -> None:
    assert addresses
    produced = run(given, "produce", "order.created", folder=folder, stdin="not an order\n")
    assert produced.returncode == 0, produced
    *others, last = COMMANDS
    ended = all_of(given, [words for words, _ in others], folder)
    ended.append(run(given, *last[0], folder=folder))  # Once nothing is under way.
    for answer, (words, said) in zip(ended, COMMANDS, strict=True):
        assert answer.returncode == 0, (words, answer)
        assert said in answer.stdout, (words, answer)
        assert holding(answer.stdout + answer.stderr) == [], words
    for log in folder.glob("*.log"):
        assert holding(log.read_text()) == [], log.name


def changed_dsn(dsn: str, **parts: Any) -> str:
    return make_conninfo("", **(conninfo_to_dict(dsn) | parts))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("KAFKA_SASL_PASSWORD", lambda _: WRONG),
        ("KAFKA_SSL_KEY_PASSWORD", lambda _: WRONG),
        ("DATABASE_URL", partial(changed_dsn, password=WRONG)),
        ("DATABASE_URL", lambda _: f"postgresql://shop:{WRONG}/1@db.example/shop"),
        ("ORDERSTREAM_API_KEYS", lambda _: f"shop:client:{WRONG}"),
    ],
)
def test_what_is_wrong_is_said_without_it(
    given: dict[str, str], folder: Path, name: str, change: Any
) -> None:
    wrong = given | {name: change(given[name])}
    for answer in all_of(wrong, ASKED_OF_A_FAULT, folder):
        told = answer.stdout + answer.stderr
        assert holding(told) == [], answer.args
        assert "Traceback" not in told, answer
    if name == "ORDERSTREAM_API_KEYS" or "example" in wrong["DATABASE_URL"]:
        return  # It does not start: `config` has shown how that is said.
    port = own_port()
    wrong["ORDERSTREAM_PORT_INVENTORY"] = str(port)
    log = folder / "inventory.log"
    log.unlink(missing_ok=True)
    with starting(wrong, ["inventory"], folder) as processes:

        def said() -> bool:
            return processes["inventory"].poll() is not None or tells_of_it(port)

        until(said, what="it ends, or says why it waits")
    assert holding(log.read_text()) == []


def tells_of_it(port: int) -> bool:
    try:
        answer = httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=8, trust_env=False)
    except httpx.TransportError:
        return False
    assert holding(answer.text) == []
    document: dict[str, Any] = json.loads(answer.text)
    return document.get("faults", {}).get("stage") != "starting"
