"""`stock`: what is on the shelf, through the inventory service's HTTP API."""

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from orderstream.cli import settings
from orderstream.cli.app import app
from orderstream.cli.output import (
    Api,
    AsJson,
    api_of,
    hint,
    in_path,
    print_json,
    print_json_lines,
    print_table,
    read_input,
)

PAGE_MAX = 1000  # What the API gives at once.
IMPORT_TIMEOUT_S = 300.0

stock = typer.Typer(help="See and change what is on the shelf.", no_args_is_help=True)
app.add_typer(stock, name="stock")

Sku = Annotated[str, typer.Argument(metavar="SKU", help="The article.")]


@stock.command("list")
def list_stock(
    after: Annotated[str, typer.Option(metavar="SKU", help="Go on behind this SKU.")] = "",
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 100,
    everything: Annotated[bool, typer.Option("--all", help="All of them, however many.")] = False,
    as_json: AsJson = False,
) -> None:
    """List what is on hand, reserved for orders, and available to the next one, by SKU."""
    with api_of("inventory", settings.load()) as api:
        found = find(api, after, None if everything else limit)
        if as_json:
            print_json_lines(found)
        else:
            _print_levels(found)


def find(api: Api, after: str, limit: int | None) -> Iterator[dict[str, Any]]:
    """Yield stock levels page by page, up to the limit; say on stderr when there are more."""
    left, place = limit, after
    while True:
        wanted = PAGE_MAX if left is None else min(left, PAGE_MAX)
        page = api.get("/api/stock", after=place, limit=wanted)
        yield from page["stock"]
        place = page["nextAfter"]
        if place is None:
            return
        if left is not None:
            left -= len(page["stock"])
            if left <= 0:
                hint(f"there are more than these {limit}: ask for a higher --limit, or for --all")
                return


@stock.command()
def get(sku: Sku, as_json: AsJson = False) -> None:
    """Show one SKU: on hand, reserved and available."""
    with api_of("inventory", settings.load()) as api:
        _print_level(api.get(_path(sku)), as_json)


@stock.command("set")
def set_stock(
    sku: Sku,
    on_hand: Annotated[int, typer.Argument(min=0, metavar="N", help="What is on the shelf now.")],
    as_json: AsJson = False,
) -> None:
    """Say what is on the shelf; a SKU that is new can be ordered from then on.

    It cannot be less than what orders have reserved.
    """
    with api_of("inventory", settings.load()) as api:
        answer = api.send("PUT", _path(sku), json={"onHand": on_hand})
        _print_level(api.read(answer), as_json)


# A change such as -5 would be taken for an option otherwise.
@stock.command(context_settings={"ignore_unknown_options": True})
def adjust(
    sku: Sku,
    change: Annotated[
        int, typer.Argument(metavar="CHANGE", help="What came in, such as +5, or went out, -5.")
    ],
    as_json: AsJson = False,
) -> None:
    """Add to what is on the shelf, or take away; never below what orders have reserved."""
    with api_of("inventory", settings.load()) as api:
        answer = api.send("POST", f"{_path(sku)}/adjust", json={"change": change})
        _print_level(api.read(answer), as_json)


@stock.command("import")
def import_stock(
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="CSV lines of `sku,onHand`; `-` is stdin.")
    ],
    as_json: AsJson = False,
) -> None:
    """Set many SKUs from a CSV file, all or none; the heading `sku,onHand` is optional."""
    body = read_input(file)
    with api_of("inventory", settings.load(), IMPORT_TIMEOUT_S) as api, _busy("importing"):
        answer = api.send(
            "POST", "/api/stock:import", content=body, headers={"content-type": "text/csv"}
        )
        done = api.read(answer)
    if as_json:
        print_json(done)
    else:
        print(f"{done['imported']} SKUs set")


@stock.command("demo")
def demo_stock(as_json: AsJson = False) -> None:
    """Put the demo's goods on empty shelves, as `up` does; where there is stock, do nothing."""
    from orderstream.wiring.demo import DEMO_CATALOGUE

    with api_of("inventory", settings.load(), IMPORT_TIMEOUT_S) as api:
        done: dict[str, int] = {"imported": 0}
        if not api.get("/api/stock", limit=1)["stock"]:
            body = "".join(f"{sku},{on_hand}\n" for sku, on_hand in DEMO_CATALOGUE)
            answer = api.send(
                "POST", "/api/stock:import", content=body, headers={"content-type": "text/csv"}
            )
            done = api.read(answer)
    if as_json:
        print_json(done)
    else:
        print(f"{done['imported']} SKUs set" if done["imported"] else "there is stock already")


def _busy(doing: str) -> Any:
    """Show on a terminal that something is under way."""
    from rich.console import Console

    return Console(stderr=True).status(doing)


def _path(sku: str) -> str:
    return f"/api/stock/{in_path(sku)}"


def _print_level(level: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(level)
    else:
        _print_levels(iter([level]))


def _print_levels(levels: Iterator[dict[str, Any]]) -> None:
    names = ("sku", "onHand", "reserved", "available")
    print_table(
        ("sku", "on hand", "reserved", "available"),
        (tuple(level[name] for name in names) for level in levels),
    )
