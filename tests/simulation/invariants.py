"""The promises: some hold at every commit, the others when a world has come to rest."""

from collections import Counter
from collections.abc import Iterator
from typing import Any, cast

from confluent_kafka import Message

from orderstream.analytics.rules import count
from orderstream.contract.envelope import header
from orderstream.contract.errors import Malformed
from orderstream.contract.events import OrderCreated, decode_created
from orderstream.contract.values import quantities_by_sku
from orderstream.order_view.rules import Status
from orderstream.runtime.failure import ATTEMPTS
from tests.simulation.database import Key
from tests.simulation.stores import Reservation, counters
from tests.simulation.workload import DRILL, TOPICS
from tests.simulation.world import World

Origin = tuple[str, int, int]


def watch(world: World) -> None:
    """Have each commit checked as it happens."""
    for name, rows in world.rows.items():
        rows.on_commit = lambda before, written, name=name: _committed(world, name, before, written)


def _committed(world: World, name: str, before: dict[Key, Any], written: dict[Key, Any]) -> None:
    for key, row in written.items():
        old = before.get(key)
        if key[0] == "position" and old is not None and row <= old:
            world.violated(f"{name}: position {key[1]} went from {old} to {row}")
        if key[0] == "reservation" and old is not None and old.outcome not in (None, row.outcome):
            world.violated(f"order {key[1]} was decided twice")
    if name == "inventory":
        _stock_adds_up(world)
        _rejected_for_a_reason(world, before, written)


def _stock_adds_up(world: World) -> None:
    rows = world.rows["inventory"]
    held: Counter[str] = Counter()
    shipped: Counter[str] = Counter()
    for row in rows.table("reservation").values():
        if row.status == "RESERVED":
            held.update(row.quantities)
        elif row.status == "FULFILLED" and row.outcome is not None:
            shipped.update(row.quantities)
    for sku, (on_hand, reserved) in rows.table("stock").items():
        sku = str(sku)
        if not 0 <= reserved <= on_hand:
            world.violated(f"{sku} is oversold: {reserved} of {on_hand}")
        if reserved != held[sku]:
            world.violated(f"{sku}: {reserved} are reserved, orders have {held[sku]}")
        if on_hand != world.workload.stocked[sku] - shipped[sku]:
            world.violated(
                f"{sku}: {on_hand} on hand of {world.workload.stocked[sku]}, {shipped[sku]} shipped"
            )


def _rejected_for_a_reason(world: World, before: dict[Key, Any], written: dict[Key, Any]) -> None:
    committed = world.rows["inventory"].committed
    for key, row in written.items():
        if key[0] != "reservation" or row.outcome is None or row.outcome.reason != "OUT_OF_STOCK":
            continue
        if key in before and before[key].outcome is not None:
            continue
        for sku in row.outcome.short:
            on_hand, reserved = committed["stock", sku]
            if on_hand - reserved >= row.outcome.quantities[sku]:
                world.violated(f"order {key[1]} was rejected, though enough of {sku} was free")


def check(world: World) -> None:
    """Compare log and stores with what was put in."""
    for part in (_answers, _retries, _ends, _released, _view, _notices, _counts):
        for fault in part(world):
            world.violated(fault)


def _answers(world: World) -> Iterator[str]:
    """Every record of order.created has one answer: a decision, or a dead letter."""
    inputs = {_place(r): r for r in world.cluster.log(TOPICS.order_created)}
    dead = Counter(_parked_from(r) for r in world.cluster.log(TOPICS.order_created_dead))
    wanted: Counter[str] = Counter()
    for place, record in inputs.items():
        order = _order(record)
        must_die = order is None or any(line.sku == DRILL for line in order.items)
        if dead[place] != must_die:
            yield f"{place} {record.value()} has {dead[place]} dead letters"
        if order is not None and not dead[place]:
            wanted[order.key] += 1
    for place in dead:
        if place not in inputs:
            yield f"a dead letter of {place}, which nobody put in"
    said: dict[str, list[tuple[Any, ...]]] = {}
    for topic in (TOPICS.inventory_reserved, TOPICS.inventory_rejected):
        for record in world.cluster.log(topic):
            event = _read(world, "analytics", record)
            if event is not None:
                told = (topic, quantities_by_sku(event.items), event.decided_at)
                said.setdefault(event.key, []).append(told)
    for key in sorted(wanted.keys() | said.keys()):
        answers = said.get(key, [])
        if len(answers) != wanted[key]:
            yield f"order {key} was put in {wanted[key]} times, and answered {len(answers)} times"
        if any(answer != answers[0] for answer in answers):
            yield f"order {key} has different outcomes: {answers}"
        row = world.rows["inventory"].committed.get(("reservation", key))
        if answers and (row is None or row.outcome is None):
            yield f"order {key} was answered, and has no outcome in the store"
        elif answers and row is not None:
            topic, quantities, decided_at = answers[0]
            is_reserved = topic == TOPICS.inventory_reserved
            if (is_reserved, quantities, decided_at) != (
                row.outcome.reason is None,
                row.outcome.quantities,
                row.outcome.decided_at,
            ):
                yield f"order {key}: the log says {answers[0]}, the store {row.outcome}"


def _retries(world: World) -> Iterator[str]:
    """A record is tried again at most as often as it may be, and each time once."""
    seen: Counter[tuple[Origin, int]] = Counter()
    for record in world.cluster.log(TOPICS.order_created_retry):
        attempt = int.from_bytes(_header(record, ATTEMPTS), "big")
        origin = _origin(record, "kafka_original-")
        seen[origin, attempt] += 1
        if not 1 <= attempt <= world.policy.attempts:
            yield f"{origin} was tried again as attempt {attempt}"
    for (origin, attempt), times in seen.items():
        if times > 1:
            yield f"attempt {attempt} of {origin} is in the retry topic {times} times"


def _ends(world: World) -> Iterator[str]:
    """What was cancelled holds nothing; what was fulfilled has left, or could not."""
    committed = world.rows["inventory"].committed
    cancelled, fulfilled = (
        _keys(world, TOPICS.order_cancelled),
        _keys(world, TOPICS.order_fulfilled),
    )
    for key in sorted(cancelled.keys() | fulfilled.keys()):
        row: Reservation | None = committed.get(("reservation", key))
        if row is None:
            yield f"the end of order {key} left nothing in the store"
        elif row.status == "RESERVED":
            yield f"order {key} is over, and holds its stock"
        elif row.status in ("CANCELLED", "EXPIRED") and key not in cancelled:
            yield f"order {key} is {row.status}, and nobody cancelled it"
        elif row.status == "FULFILLED" and key not in fulfilled:
            yield f"order {key} is FULFILLED, and nobody did it"
    for topic in (TOPICS.order_cancelled, TOPICS.order_fulfilled):
        inputs = {_place(r): r for r in world.cluster.log(topic)}
        dead = Counter(_parked_from(r) for r in world.cluster.log(TOPICS.dead_letter(topic)))
        for place, record in inputs.items():
            event = _read(world, "inventory", record)
            if event is None:
                if dead[place] != 1:
                    yield f"{place} cannot be read, and has {dead[place]} dead letters"
                continue
            row = committed.get(("reservation", event.key))
            may_die = topic == TOPICS.order_fulfilled and row and row.status != "FULFILLED"
            if dead[place] > bool(may_die):
                yield f"{place} has {dead[place]} dead letters"
        for place in dead:
            if place not in inputs:
                yield f"a dead letter of {place}, which nobody put in"


def _released(world: World) -> Iterator[str]:
    """What a cancellation freed is said once per cancellation, in the same words."""
    cancelled = _keys(world, TOPICS.order_cancelled)
    said: dict[str, list[Any]] = {}
    for record in world.cluster.log(TOPICS.inventory_released):
        event = _read(world, "analytics", record)
        if event is not None:
            said.setdefault(event.key, []).append(event)
    for key, row in world.rows["inventory"].table("reservation").items():
        key = str(key)
        events = said.pop(key, [])
        if row.released_at is None:
            if events:
                yield f"order {key} released nothing, and the log says so {len(events)} times"
            continue
        if not 1 <= len(events) <= cancelled[key]:
            yield f"order {key} was cancelled {cancelled[key]} times, released {len(events)} times"
        for event in events:
            if (quantities_by_sku(event.items), event.released_at, event.cause) != (
                row.quantities,
                row.released_at,
                row.status,
            ):
                yield f"order {key}: {event} is not what the store says"
    for key in said:
        yield f"order {key} was released, and is not in the store"


_RANKS = {
    "order.created": Status.PENDING,
    "order.failed": Status.FAILED,
    "inventory.reserved": Status.CONFIRMED,
    "inventory.rejected": Status.REJECTED,
    "order.cancelled": Status.CANCELLED,
    "order.fulfilled": Status.FULFILLED,
    "inventory.released": Status.PENDING,
}


def _view(world: World) -> Iterator[str]:
    """Each page has every committed event of its order once, and the greatest status."""
    model: dict[str, tuple[list[Origin], Status]] = {}
    for record in _log_of(world, "view"):
        seen = _read(world, "view", record)
        if seen is None:
            continue
        status = _RANKS[seen.event_type]
        if getattr(seen.event, "cause", "") == "EXPIRED" and status is Status.CANCELLED:
            status = Status.EXPIRED
        if getattr(seen.event, "reason", "") == "CANCELLED" and status is Status.REJECTED:
            status = Status.CANCELLED
        places, before = model.setdefault(seen.event.key, ([], Status.PENDING))
        model[seen.event.key] = ([*places, _place(record)], max(status, before))
    pages = world.rows["view"].table("orders")
    for key in sorted(model.keys() | {str(key) for key in pages}):
        places, status = model.get(key, ([], None))
        page = pages.get(key)
        if page is None:
            yield f"view: no page of order {key}"
            continue
        shown = sorted(entry[:3] for entry in page["timeline"])
        if shown != sorted(places):
            yield f"view: order {key} shows {shown}, the log has {sorted(places)}"
        if page["status"] != status:
            yield f"view: order {key} is {page['status']!r}, the log says {status!r}"


def _notices(world: World) -> Iterator[str]:
    """One notice for each event that is told, and each was handed over."""
    events = [_read(world, "notification", r) for r in _log_of(world, "notification")]
    expected = {event.event_id for event in events if event is not None}
    found = {key[0] for key in world.rows["notification"].table("notice")}  # pyright: ignore
    for missing in sorted(expected - found):
        yield f"notification: no notice of {missing}"
    for strange in sorted(found - expected):
        yield f"notification: a notice of {strange}, which is not on the log"
    for untold in sorted(found - world.told.ids.keys()):
        yield f"notification: {untold} was not told"


def _counts(world: World) -> Iterator[str]:
    """Each count is what one reading of the whole log makes it."""
    read = (_read(world, "analytics", record) for record in _log_of(world, "analytics"))
    events = [event for event in read if event is not None]
    model = counters(count([event.key for event in events], events, {}))
    for table, counts in model.items():
        expected = {key: number for key, number in counts.items() if number}
        found = {k: n for k, n in world.rows["analytics"].table(table).items() if n}
        if found != expected:
            yield f"analytics: {table} is {found}, the log says {expected}"


def _log_of(world: World, stage: str) -> Iterator[Message]:
    for topic in world.stages[stage].reads:
        yield from world.cluster.log(topic)


def _read(world: World, stage: str, record: Message) -> Any:
    try:
        return world.stages[stage].reads[record.topic() or ""](record)
    except Malformed:
        return None


def _order(record: Message) -> OrderCreated | None:
    try:
        return decode_created(record.value())
    except Malformed:
        return None


def _keys(world: World, topic: str) -> Counter[str]:
    events = [_read(world, "inventory", record) for record in world.cluster.log(topic)]
    return Counter(event.key for event in events if event is not None)


def _place(record: Message) -> Origin:
    return record.topic() or "", record.partition() or 0, record.offset() or 0


def _parked_from(record: Message) -> Origin:
    return _origin(record, "kafka_dlt-original-")


def _origin(record: Message, prefix: str) -> Origin:
    topic, partition, offset = (
        _header(record, prefix + name) for name in ("topic", "partition", "offset")
    )
    return topic.decode(), int.from_bytes(partition, "big"), int.from_bytes(offset, "big")


def _header(record: Message, name: str) -> bytes:
    return header(cast(Any, record.headers()), name) or b""
