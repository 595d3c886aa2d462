"""The service as it runs, with a channel of each kind, killed in the middle again and again."""

import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from orderstream.contract.events import InventoryReserved, encode
from orderstream.contract.values import Contact
from orderstream.notification.ids import message_id
from orderstream.notification.store_postgres import PostgresNotices
from orderstream.runtime.database import Database
from orderstream.runtime.settings import Settings
from orderstream.runtime.stage import Output
from tests.builders import NOON, lines
from tests.conftest import SettingsOf
from tests.kafka.topics import create, put
from tests.notification.receivers import (
    PASSWORD,
    SECRET,
    USER,
    Gateway,
    mail_server,
    web_server,
)
from tests.orders.service import environment
from tests.ports import own_port
from tests.security.certificates import Certificates
from tests.waiting import until

KILLS = 3
ASKED_FOR = ("mailto", "sms", "webhook-127.0.0.1")


@contextmanager
def served(env: dict[str, str], out: Path) -> Iterator[subprocess.Popen[bytes]]:
    with out.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "orderstream", "serve", "notification"],
            env={**os.environ, **env},
            stdout=log,
            stderr=log,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def confirmed(settings: Settings, number: int) -> Output:
    to = Contact(email=f"c{number}@example.com", phone=f"+4915{number:09}", locale="tr")
    event = InventoryReserved(
        order_id=number,
        items=lines(("MUG", 1)),
        user_id=number,
        ordered_at=NOON,
        decided_at=NOON,
        notify=to,
    )
    return Output(settings.topics.inventory_reserved, str(number).encode(), encode(event), [])


@pytest.mark.parametrize(
    "count",
    [pytest.param(600, id="short"), pytest.param(10_000, id="long", marks=pytest.mark.chaos)],
)
@pytest.mark.timeout(900)
def test_none_is_missing_and_doubles_are_those_that_nobody_could_know_of(
    count: int,
    settings_of: SettingsOf,
    certificates: Certificates,
    gateway: Gateway,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    mail_port = own_port()
    unanswered = {f"/+4915{number:09}" for number in range(0, count, 50)}
    gateway.unanswered |= unanswered
    out = tmp_path / "service.log"
    with mail_server(mail_port, certificates) as box, web_server() as hooks:
        settings = create(
            settings_of(
                ORDERSTREAM_NOTIFY=(
                    f"log,mailtos://{USER}:{PASSWORD}@127.0.0.1:{mail_port}"
                    "?mode=starttls&from=shop@example.com&to={email},"
                    f"sms=json://127.0.0.1:{gateway.port}/{{phone}}"
                ),
                ORDERSTREAM_WEBHOOK_URLS=hooks.address,
                ORDERSTREAM_WEBHOOK_SECRET=SECRET,
                ORDERSTREAM_WEBHOOK_ALLOW_PRIVATE="1",
                ORDERSTREAM_NOTIFY_RETRIES="0.2,0.2,0.5,1,2,5,5",
                ORDERSTREAM_PORT_NOTIFICATION=str(own_port()),
            )
        )
        env = environment(settings) | {"SSL_CERT_FILE": str(certificates.authority)}
        with closing(Database(settings.dsn(), "notification")) as database:
            notices = PostgresNotices(database)
            for kill in range(KILLS):
                with served(env, out) as process:
                    if kill == 0:
                        put(settings, *(confirmed(settings, number) for number in range(count)))
                    goal = count * (kill + 1) // (KILLS + 1)
                    until(lambda goal=goal: len(hooks.ids) >= goal, 600, f"{goal} webhooks")
                    process.kill()
            with served(env, out) as process:
                until(lambda: len(box.ids) == len(hooks.ids) == count, 900, "all are there")
                until(lambda: not notices.open(), 300, "all is written down")
                process.terminate()
                assert process.wait(30) == 0

            rows = {
                (row[0], row[1]): row[2]
                for row in _rows(database, "SELECT event_id, channel, doubtful FROM notice")
            }
        events = [f"{number}:inventory.reserved" for number in range(count)]
        assert rows.keys() == {(e, c) for e in events for c in (*ASKED_FOR, "log")}
        assert hooks.faults == []
        arrived = {
            "mailto": Counter({k.strip("<>").partition("@")[0]: n for k, n in box.ids.items()}),
            "webhook-127.0.0.1": hooks.ids,
        }
        doubles = Counter[str]()
        for channel, found in arrived.items():
            for event in events:
                times = found[message_id(event, channel)]
                assert 1 <= times <= 1 + rows[event, channel], f"{event} on {channel}: {times}"
                doubles[channel] += times - 1
        to = Counter(path for path, _ in gateway.got)
        for number, event in enumerate(events):
            times = to[f"/+4915{number:09}"]
            assert 1 <= times <= 1 + rows[event, "sms"], f"{event} by sms: {times}"
            doubles["sms"] += times - 1
        assert all(to[path] > 1 for path in unanswered)
    written = Counter(re.findall(r'"event.id":"([^"]+)"', out.read_text()))
    assert written.keys() >= set(events)
    doubles["log"] = sum(written[event] - 1 for event in events)
    doubtful = sum(rows.values())
    assert not _in_log(out, PASSWORD, SECRET, "@example.com", "+4915")
    with capsys.disabled():
        print(  # noqa: T201 - the figures of the run
            f" {count} x 4 channels, {KILLS} kills: doubles {dict(doubles)}, in doubt {doubtful}"
        )


def _rows(database: Database, query: str) -> list[tuple[str, str, int]]:
    with database.transaction() as tx:
        return tx.execute(query.encode()).fetchall()


def _in_log(out: Path, *secrets: str) -> list[str]:
    text = out.read_text()
    return [secret for secret in secrets if secret in text]
