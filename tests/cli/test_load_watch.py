"""`load --until-decided`: when every service has done its part, and who has not."""

from typing import Any

import httpx
import pytest

from orderstream.cli import load_watch
from orderstream.contract.errors import Unavailable
from orderstream.runtime.admin import Lag
from orderstream.runtime.settings import Settings
from tests.cli.test_load_command import give_api


class Log:
    """Kafka's side of a watch: one partition a topic, and how far each group has read."""

    def __init__(self, **read: dict[str, int]) -> None:
        self.read = read
        self.away = 0
        self.end = {"order.created": 5, "inventory.reserved": 6, "inventory.rejected": 0}

    def partitions(self) -> dict[str, int]:
        if self.away:
            self.away -= 1
            raise Unavailable("Kafka is away")
        return dict.fromkeys(self.end, 1)

    def ends(self, partitions: Any) -> dict[tuple[str, int], int]:
        return {at: self.end[at[0]] for at in partitions}

    def lag(self, group: str, topics: tuple[str, ...]) -> list[Lag]:
        read = self.read[group.removeprefix("orderstream-")]
        return [Lag(group, t, 0, read.get(t), self.end[t]) for t in topics if t in self.end]


class TestWatch:
    @pytest.fixture(autouse=True)
    def _services(self, monkeypatch: pytest.MonkeyPatch) -> None:
        counted = iter([100])

        def answer(request: httpx.Request) -> httpx.Response:
            if request.url.path == "/api/analytics/summary":
                return httpx.Response(200, json={"orders": next(counted, 105)})
            return httpx.Response(200, json={"status": "CONFIRMED"})

        give_api(monkeypatch, load_watch, answer)
        monkeypatch.setattr(load_watch, "LOOK_EVERY_S", 0.0)

    def watched(self, log: Any, within_s: float = 20.0, accepted: int = 5) -> load_watch.Followed:
        watch = load_watch.Watch(Settings.load({}), log)
        return watch.wait(accepted, b'{"orderId": 1}', within_s)

    ALL = {  # noqa: RUF012
        "inventory": {"order.created": 5},
        "analytics": {"order.created": 5, "inventory.reserved": 5},
        "notification": {"inventory.reserved": 5},
        "view": {"order.created": 5, "inventory.reserved": 5},
    }

    def test_ends_when_every_group_has_read_all_but_marks(self) -> None:
        followed = self.watched(Log(**self.ALL))
        assert followed.missing == ()
        assert list(followed.at) == ["inventory", "analytics", "notification", "view"]

    @pytest.mark.parametrize("service", ["analytics", "notification", "view"])
    def test_names_who_is_behind(self, service: str) -> None:
        read = self.ALL | {service: {"order.created": 5, "inventory.reserved": 4}}
        assert self.watched(Log(**read), 0.2).missing == (service,)

    def test_waits_for_inventory_before_it_asks_for_anything_else(self) -> None:
        followed = self.watched(Log(**self.ALL | {"inventory": {"order.created": 4}}), 0.1)
        assert (followed.at, followed.missing) == ({}, ("inventory",))

    def test_an_order_that_is_not_counted_is_missing(self) -> None:
        assert self.watched(Log(**self.ALL), 0.2, accepted=6).missing == ("analytics",)

    def test_kafka_away_for_a_while_is_asked_again(self) -> None:
        log = Log(**self.ALL)
        watch = load_watch.Watch(Settings.load({}), log)  # pyright: ignore[reportArgumentType] - by hand
        log.away = 3
        assert watch.wait(5, b'{"orderId": 1}', 20.0).missing == ()
        assert log.away == 0
