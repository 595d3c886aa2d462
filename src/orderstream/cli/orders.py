"""`order`: place orders and see what becomes of them, through the order service's HTTP API."""

import time
from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from orderstream.cli import settings
from orderstream.cli.app import app
from orderstream.cli.output import (
    HTTP_TIMEOUT_S,
    Api,
    AsJson,
    Refused,
    api_of,
    hint,
    in_path,
    print_facts,
    print_json,
    print_json_lines,
    print_table,
    printable,
    read_input,
)
from orderstream.contract.errors import Unavailable
from orderstream.contract.values import NUMBER_MAX

if TYPE_CHECKING:
    import httpx

LOOK_EVERY_S = 0.2
PAGE_MAX = 500  # What the API gives at once.
WAIT_MAX_S = 30
OK = 200
NOT_FOUND = 404

orders = typer.Typer(help="Place orders and see what becomes of them.", no_args_is_help=True)
app.add_typer(orders, name="order")

OrderId = Annotated[str, typer.Argument(metavar="ID", help="The order's id.")]


# create ------------------------------------------------------------------------------------


@orders.command()
def create(
    user: Annotated[
        str | None, typer.Option("--user", metavar="ID", help="Who orders: a number or a name.")
    ] = None,
    items: Annotated[
        list[str] | None,
        typer.Option("--item", metavar="SKU=QTY", help="So many of one SKU; repeat for more."),
    ] = None,
    order_id: Annotated[
        str | None,
        typer.Option("--id", help="Your own order id; sent twice, it is still one order."),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(help="Idempotency key: the same key and order get the same answer again."),
    ] = None,
    wait: Annotated[
        int | None,
        typer.Option(
            min=0, max=WAIT_MAX_S, metavar="SECONDS", help="Wait so long for the decision."
        ),
    ] = None,
    file: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Send this JSON instead; `-` reads it from stdin."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Place one order; prints its id and status once Kafka holds it safely."""
    body = order_body(user, items or [], order_id, file)
    headers = {"content-type": "application/json"}
    if key is not None:
        headers["idempotency-key"] = header_text(key)
    if wait is not None:
        headers["prefer"] = f"wait={wait}"
    with api_of("order", settings.load(), HTTP_TIMEOUT_S + (wait or 0)) as api:
        answer = api.send("POST", "/api/orders", content=body, headers=headers)
        order = api.read(answer)
    if as_json:
        print_json(order)
    else:
        _print_accepted(order, answer, waited=wait)


def order_body(user: str | None, items: list[str], order_id: str | None, file: str | None) -> bytes:
    """Return the order as JSON, from a file or from the options. Raises BadParameter."""
    if file is not None:
        if user is not None or items or order_id is not None:
            raise typer.BadParameter("--file has the whole order: leave out --user, --item, --id")
        return read_input(file)
    if user is None or not items:
        raise typer.BadParameter(
            "an order needs --user and --item, such as --user 42 --item ABC-001=2, or --file"
        )
    order: dict[str, object] = {
        "userId": number_or_text(user),
        "items": [dict(zip(("sku", "qty"), parse_item(item), strict=True)) for item in items],
    }
    if order_id is not None:
        order["orderId"] = number_or_text(order_id)
    return msgspec.json.encode(order)


def parse_item(text: str) -> tuple[str, int]:
    """Read `SKU=QTY`; the SKU itself may contain `=`. Raises BadParameter."""
    sku, separator, quantity = text.rpartition("=")
    if not separator or not sku or not (quantity.isascii() and quantity.isdigit()):
        raise typer.BadParameter(f"--item {text}: write SKU=QTY, such as ABC-001=2")
    return sku, int(quantity)


def number_or_text(text: str) -> int | str:
    """Read an id as its owner means it: 42 is a number, 007 and u1 are texts."""
    if text.isascii() and text.isdigit() and len(text) <= len(str(NUMBER_MAX)):
        number = int(text)
        if str(number) == text and number <= NUMBER_MAX:
            return number
    return text


def header_text(text: str) -> str:
    """Return text that fits a header. Raises BadParameter."""
    if not (text.isascii() and text.isprintable()):
        raise typer.BadParameter("--key: only printable ASCII characters fit an HTTP header")
    return text


def _print_accepted(order: dict[str, Any], answer: "httpx.Response", waited: int | None) -> None:
    again = answer.headers.get("idempotent-replayed") == "true"
    print(f"order {said_of(order)}" + (" (accepted before; still one order)" if again else ""))
    if waited is not None and order["status"] == "PENDING":
        hint(f"not decided within {waited} s; go on with `orderstream order watch` and its id")


def said_of(order: dict[str, Any]) -> str:
    """Say an order's id and status, and why, on one line."""
    why = why_of(order)
    return printable(f"{order['orderId']}: {order['status']}" + (f" ({why})" if why else ""))


def why_of(order: dict[str, Any]) -> str:
    """Say why an order is not confirmed, and which SKUs were missing; empty when it is."""
    short = ", ".join(order.get("short", ()))
    return ": ".join(part for part in (order.get("reason"), short) if part)


# get ---------------------------------------------------------------------------------------


@orders.command()
def get(order_id: OrderId, as_json: AsJson = False) -> None:
    """Show one order: its status, its items, and what happened to it so far."""
    with api_of("order", settings.load()) as api:
        page = _page(api, order_id)
    if as_json:
        print_json(page)
        return
    print_facts(
        (
            ("order", page["orderId"]),
            ("status", page["status"]),
            ("reason", page.get("reason")),
            ("short of", ", ".join(page["short"]) if "short" in page else None),
            ("user", page["userId"]),
            ("items", items_text(page)),
            ("created", page["createdAt"]),
            ("decided", page["decidedAt"]),
        )
    )
    print()
    print_table(
        ("time", "event", "where", "by, cause"),
        [
            (event["at"], event["type"], where_of(event), who_and_why(event))
            for event in page["timeline"]
        ],
    )


def items_text(order: dict[str, Any]) -> str | None:
    """Write an order's items as `--item` takes them; None when they are not known."""
    return ", ".join(f"{item['sku']}={item['qty']}" for item in order["items"]) or None


def where_of(event: dict[str, Any]) -> str:
    """Say where in Kafka an event is, as topic[partition]@offset."""
    return f"{event['topic']}[{event['partition']}]@{event['offset']}"


def who_and_why(event: dict[str, Any]) -> str:
    """Say who was at work and why, as far as the event tells."""
    return ", ".join(event[name] for name in ("by", "cause") if name in event)


def _page(api: Api, order_id: str) -> dict[str, Any]:
    return api.get(f"/api/orders/{in_path(order_id)}")


# cancel, fulfil ----------------------------------------------------------------------------


@orders.command()
def cancel(
    order_id: OrderId,
    reason: Annotated[str | None, typer.Option(help="Why, in your own words.")] = None,
    as_json: AsJson = False,
) -> None:
    """Cancel an order that is PENDING or CONFIRMED: its stock is free again. Safe to repeat."""
    _end(order_id, "cancel", {} if reason is None else {"reason": reason}, as_json)


@orders.command()
def fulfil(order_id: OrderId, as_json: AsJson = False) -> None:
    """Fulfil an order that is CONFIRMED: its goods have left the shelf. Safe to repeat."""
    _end(order_id, "fulfil", {}, as_json)


def _end(order_id: str, what: str, body: dict[str, str], as_json: bool) -> None:
    with api_of("order", settings.load()) as api:
        path = f"/api/orders/{in_path(order_id)}/{what}"
        headers = {"content-type": "application/json"}
        answer = api.send("POST", path, content=msgspec.json.encode(body), headers=headers)
        order = api.read(answer)
    if as_json:
        print_json(order)
        return
    later = "" if answer.status_code == OK else ", as soon as Kafka is back"
    print(f"order {order['orderId']}: {order['status']}{later}")


# list --------------------------------------------------------------------------------------


@orders.command("list")
def list_orders(
    status: Annotated[
        str | None, typer.Option(help="Only PENDING, CONFIRMED, REJECTED, CANCELLED ... ones.")
    ] = None,
    user: Annotated[str | None, typer.Option(metavar="ID", help="Only this user's.")] = None,
    sku: Annotated[str | None, typer.Option(help="Only those with this SKU.")] = None,
    since: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="TIME", help="From this time (ISO 8601, UTC if it is bare)."
        ),
    ] = None,
    until: Annotated[
        str | None, typer.Option("--to", metavar="TIME", help="Up to this time, itself excluded.")
    ] = None,
    sort: Annotated[
        str, typer.Option(help="created, took or decided; with a - before it the other way round.")
    ] = "-created",
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 50,
    everything: Annotated[bool, typer.Option("--all", help="All of them, however many.")] = False,
    as_json: AsJson = False,
) -> None:
    """List orders, newest first unless sorted otherwise; the parts given must all fit."""
    fits = {
        "status": status,
        "userId": user,
        "sku": sku,
        "from": parse_time(since, "--from"),
        "to": parse_time(until, "--to"),
        "sort": sort,
    }
    with api_of("order", settings.load()) as api:
        found = find(api, fits, None if everything else limit)
        if as_json:
            print_json_lines(found)
        else:
            print_table(
                ("order", "status", "user", "items", "created", "decided", "reason"),
                (_row(order) for order in found),
            )


def find(api: Api, fits: dict[str, str | None], limit: int | None) -> Iterator[dict[str, Any]]:
    """Yield orders page by page, up to the limit; say on stderr when there are more."""
    left, cursor = limit, None
    while True:
        wanted = PAGE_MAX if left is None else min(left, PAGE_MAX)
        page = api.get("/api/orders", **fits, limit=wanted, cursor=cursor)
        yield from page["orders"]
        cursor = page["nextCursor"]
        if cursor is None:
            return
        if left is not None:
            left -= len(page["orders"])
            if left <= 0:
                hint(f"there are more than these {limit}: ask for a higher --limit, or for --all")
                return


def parse_time(text: str | None, option: str) -> str | None:
    """Check a time as ISO 8601 and return it as the API takes it. Raises BadParameter."""
    if text is None:
        return None
    try:
        return datetime.fromisoformat(text).isoformat()
    except ValueError:
        raise typer.BadParameter(
            f"{option} {text}: write a time such as 2026-11-21 or 2026-11-21T10:00:00Z"
        ) from None


def _row(order: dict[str, Any]) -> tuple[object, ...]:
    return (
        order["orderId"],
        order["status"],
        order["userId"],
        items_text(order),
        order["createdAt"],
        order["decidedAt"],
        why_of(order),
    )


# watch -------------------------------------------------------------------------------------


@orders.command()
def watch(
    order_id: OrderId,
    timeout: Annotated[
        float, typer.Option(min=0.1, metavar="SECONDS", help="Give up after so long.")
    ] = 30.0,
    as_json: AsJson = False,
) -> None:
    """Follow one order until it is decided; exit 0 for CONFIRMED or REJECTED, 1 for FAILED.

    Each event is printed as it comes. An order that is not there yet is waited for.
    """
    with api_of("order", settings.load()) as api:
        shown: set[str] = set()
        status = ""
        for page in pages(api, order_id, timeout):
            if as_json:
                print_json_lines([page])
            else:
                _print_news(page, shown, status)
            shown |= {event["eventId"] for event in page["timeline"]}
            status = page["status"]
    if status == "FAILED":
        raise typer.Exit(1)


def pages(api: Api, order_id: str, timeout_s: float) -> Iterator[dict[str, Any]]:
    """Yield an order's page each time it changed, up to the decision. Raises Unavailable."""
    deadline = time.monotonic() + timeout_s
    before: dict[str, Any] | None = None
    while True:
        page = _page_if_any(api, order_id)
        if page is not None and page != before:
            yield page
        if page is not None and page["status"] != "PENDING":
            return
        if time.monotonic() >= deadline:
            raise _too_late(order_id, timeout_s, known=page is not None)
        before = page
        time.sleep(LOOK_EVERY_S)


def _page_if_any(api: Api, order_id: str) -> dict[str, Any] | None:
    try:
        return _page(api, order_id)
    except Refused as refusal:
        if refusal.status == NOT_FOUND:
            return None
        raise


def _too_late(order_id: str, timeout_s: float, *, known: bool) -> Unavailable:
    said = "is still PENDING" if known else "has not been seen"
    return Unavailable(
        f"order {printable(order_id)} {said} after {timeout_s:g} s:"
        " see what is behind with `orderstream lag`"
    )


def _print_news(page: dict[str, Any], shown: set[str], status: str) -> None:
    for event in page["timeline"]:
        if event["eventId"] in shown:
            continue
        print(printable(f"{event['at']}  {event['type']:<20}  {where_of(event)}"), flush=True)
    if page["status"] != status:
        print(f"order {said_of(page)}", flush=True)
