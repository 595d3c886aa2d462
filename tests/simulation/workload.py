"""What happens to the shop in one world: stock, orders, their ends, and what nobody can read."""

from collections.abc import Callable

from orderstream.contract.envelope import Envelope
from orderstream.contract.events import Event
from orderstream.contract.topics import Topics
from orderstream.runtime.stage import Output
from tests.builders import NOON, an_order, cancelled, encode, fulfilled
from tests.simulation.cluster import Cluster
from tests.simulation.database import Rows
from tests.simulation.schedule import Schedule

TOPICS = Topics()
DRILL = "FAIL"
SKUS = ("CAP", "MUG", "PEN")

_GARBAGE = (b"{not json", b"", b"\xff\x00", b'{"orderId":"x","items":[]}', b"[]")


class Workload:
    """Everything that is put in from outside; `left` is how much is still to come."""

    def __init__(self, schedule: Schedule, cluster: Cluster, inventory: Rows) -> None:
        self.left = 0
        self.stocked: dict[str, int] = {}
        self._schedule = schedule
        self._cluster = cluster
        self._inventory = inventory
        self._random = schedule.random
        self._begin_s = schedule.random.choice((0.0, 3.0))
        self._span_s = schedule.random.choice((0.03, 0.2, 1.0, 4.0))
        self._plan()

    def _plan(self) -> None:
        random = self._random
        for sku in SKUS[: random.randint(1, 3)]:
            self.stocked[sku] = random.randint(0, 8)
            self._inventory.committed["stock", sku] = (self.stocked[sku], 0)
        for number in range(1, random.randint(4, 14)):
            self._order(number if random.random() < 0.7 else f"A-{number}")
        for _ in range(random.choice((0, 0, 1, 3))):
            self._garbage()
        for _ in range(random.choice((0, 1, 2))):
            self._adjust(random.choice(SKUS), random.randint(-2, 4))

    def _order(self, order_id: int | str) -> None:
        random, chance = self._random, self._random.random

        def items() -> list[tuple[str, int]]:
            return [
                (random.choice(SKUS), random.choice((1, 1, 2, 3)))
                for _ in range(random.choice((1, 1, 2, 3)))
            ]

        wanted = items()
        if chance() < 0.08:
            wanted.append(("NOPE", 1) if chance() < 0.5 else (DRILL, 1))
        order = an_order(*wanted, order_id=order_id)
        at = chance() * self._span_s
        self._say("order.created", order, at)
        if chance() < 0.15:  # An unknown outcome, and the producer repeats it.
            self._say("order.created", order, at + chance() ** 3 * self._span_s)
        if chance() < 0.05:  # Another program's order under the same id.
            other = an_order(*items(), order_id=order_id)
            self._say("order.created", other, chance() * self._span_s)
        while chance() < 0.25:
            self._say(
                "order.cancelled", cancelled(order, chance() < 0.4), chance() * 1.5 * self._span_s
            )
        while chance() < 0.2:
            self._say("order.fulfilled", fulfilled(order), chance() * 1.5 * self._span_s)

    def _say(self, event_type: str, event: Event, at: float) -> None:
        topic = {
            "order.created": TOPICS.order_created,
            "order.cancelled": TOPICS.order_cancelled,
            "order.fulfilled": TOPICS.order_fulfilled,
        }[event_type]
        key = event.key.encode()
        headers = Envelope(event_type, "/simulation").headers(key, NOON)
        self._put(Output(topic, key, encode(event), headers), at)

    def _garbage(self) -> None:
        random = self._random
        topic = random.choice(
            (
                TOPICS.order_created,
                TOPICS.order_created,
                TOPICS.order_cancelled,
                TOPICS.order_fulfilled,
                TOPICS.inventory_reserved,
                TOPICS.inventory_released,
            )
        )
        key = random.choice((None, b"junk", b"\xff", b"1"))
        self._put(Output(topic, key, random.choice(_GARBAGE), []), random.random() * self._span_s)

    def _put(self, output: Output, at: float) -> None:
        def put() -> None:
            self._schedule.note("outside", f"{output.topic} {output.key!r} {output.value!r}")
            self._cluster.append(output)

        self._later(at, put)

    def _adjust(self, sku: str, change: int) -> None:
        rows = self._inventory

        def adjust() -> None:
            if rows.holders.get(("stock", sku)):
                self._later(0.05, adjust)
                return
            on_hand, reserved = rows.committed.get(("stock", sku), (0, 0))
            if ("stock", sku) in rows.committed and reserved <= on_hand + change:
                self._schedule.note("outside", f"stock of {sku} changes by {change}")
                rows.committed["stock", sku] = (on_hand + change, reserved)
                self.stocked[sku] += change

        self._later(self._random.random() * self._span_s, adjust)

    def _later(self, at: float, action: Callable[[], None]) -> None:
        self.left += 1

        def act() -> None:
            self.left -= 1
            action()

        self._schedule.after(self._begin_s + at, act)
