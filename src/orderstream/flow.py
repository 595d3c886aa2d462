"""THE MAP: the stages in the order an order meets them, and the topics each reads and writes.

    client ── POST ──▶ order ── order.created ──▶ inventory ── inventory.reserved / .rejected ─┐
                         │                            │                                        │
                         │                            └── order.created.retry / .DLT           │
                         └◀── view ◀───────── every topic ◀────────────────────────────────────┤
                                              notification ◀───────────────────────────────────┤
                                              analytics ◀──────────────────────────────────────┘

`orderstream flow` prints it with the names in force; a test holds it against the stages.
"""

from dataclasses import dataclass

from orderstream.contract.topics import Topics

# Each service's schema, which is also the folder of its migrations.
SCHEMAS = {
    "order": "orders",
    "inventory": "inventory",
    "view": "order_view",
    "notification": "notification",
    "analytics": "analytics",
}
SERVICES = tuple(SCHEMAS)
CONSOLE = "console"  # It has no part in the flow: it looks on.
PROGRAMS = (*SERVICES, CONSOLE)


@dataclass(frozen=True)
class Step:
    """One service: what it does, what it reads and writes, and where its offsets are committed."""

    service: str
    does: str
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    offsets: str
    code: str


def flow(topics: Topics, received: bool = False) -> tuple[Step, ...]:
    """Return the steps of the flow with the topics by the names in force.

    With `received` customers are told that their order has come in.
    """
    t = topics
    dead = t.dead_letter
    return (
        Step(
            "order",
            "accepts orders over HTTP, cancels and fulfils them",
            (),
            (t.order_created, t.order_cancelled, t.order_fulfilled),
            "",
            "orders/",
        ),
        Step(
            "inventory",
            "reserves stock, all lines or none",
            (t.order_created, t.order_created_retry, t.order_cancelled, t.order_fulfilled),
            (
                t.inventory_reserved,
                t.inventory_rejected,
                t.inventory_released,
                t.order_created_retry,
                dead(t.order_created),
                dead(t.order_cancelled),
                dead(t.order_fulfilled),
                *([] if t.order_status is None else [t.order_status]),
            ),
            "in the Kafka transaction of its results",
            "inventory/",
        ),
        Step(
            "view",
            "keeps every order's page",
            (
                t.order_created,
                t.inventory_reserved,
                t.inventory_rejected,
                t.order_cancelled,
                t.order_fulfilled,
                t.inventory_released,
                dead(t.order_created),
            ),
            (
                dead(t.order_created),
                dead(t.inventory_reserved),
                dead(t.inventory_rejected),
                dead(t.inventory_released),
            ),
            "in the store transaction of its rows",
            "order_view/",
        ),
        Step(
            "notification",
            "tells the customer",
            (
                *([t.order_created] if received else []),
                t.inventory_reserved,
                t.inventory_rejected,
                t.order_cancelled,
                t.order_fulfilled,
                dead(t.order_created),
            ),
            (dead(t.inventory_reserved), dead(t.inventory_rejected)),
            "in the store transaction of its rows",
            "notification/",
        ),
        Step(
            "analytics",
            "counts",
            (
                t.order_created,
                t.inventory_reserved,
                t.inventory_rejected,
                t.order_cancelled,
                t.order_fulfilled,
                t.inventory_released,
                dead(t.order_created),
            ),
            (dead(t.inventory_reserved), dead(t.inventory_rejected)),
            "in the store transaction of its rows",
            "analytics/",
        ),
        Step(
            "operator",
            "puts right what failed: `orderstream dlt`",
            (),
            (t.order_created, t.dead_letters_handled),
            "",
            "dead_letters/",
        ),
    )
