"""`stats`: what analytics has counted, as tables and sparklines."""

import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from orderstream.cli import settings
from orderstream.cli.app import app
from orderstream.cli.output import (
    Api,
    AsJson,
    api_of,
    on_terminal,
    print_facts,
    print_json,
    print_json_lines,
    print_table,
    printable,
    rich_table,
)
from orderstream.contract.errors import Unavailable

if TYPE_CHECKING:
    from rich.console import Group

REFRESH_S = 1.0
UNITS_SHOWN = 60  # The newest, one character each.
SKUS_SHOWN = 10
BARS = "▁▂▃▄▅▆▇█"

Shown = dict[str, Any]


@app.command()
def stats(
    since: Annotated[
        str | None, typer.Option("--from", metavar="TIME", help="From this time on (ISO 8601).")
    ] = None,
    until: Annotated[
        str | None, typer.Option("--to", metavar="TIME", help="Before this time; now.")
    ] = None,
    zone: Annotated[
        str, typer.Option(metavar="NAME", help="Whose times, hours and days: Europe/Berlin.")
    ] = "UTC",
    unit: Annotated[
        Literal["minute", "hour", "day"], typer.Option(help="What a sparkline's characters are.")
    ] = "minute",
    watch: Annotated[
        bool, typer.Option("--watch", help="Look again each second, until Ctrl-C.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show what became of orders, how fast, and what sells: as counted by analytics.

    Sums are of all time unless a range is given; what is drawn is then of the last hour, the last
    day by hour, or the last 30 days. On a terminal, --watch waits for a service that is away.
    """
    asked = {"from": since, "to": until, "zone": zone, "unit": unit}
    with api_of("analytics", settings.load()) as api:
        if watch and on_terminal() and not as_json:
            _watch_live(api, asked)
            return
        while True:
            found = numbers(api, asked)
            if as_json:
                print_json_lines([found]) if watch else print_json(found)
            else:
                _print(found, unit)
            sys.stdout.flush()
            if not watch:
                return
            time.sleep(REFRESH_S)


def numbers(api: Api, asked: Shown) -> Shown:
    """Return all that is shown. Raises Unavailable or Refused."""
    of_range = {name: asked[name] for name in ("from", "to", "zone")}
    units = f"{asked['unit']}s"
    return {
        "summary": api.get("/api/analytics/summary", **of_range),
        "timeseries": api.get("/api/analytics/timeseries", **asked, empty=True)[units],
        "latency": api.get("/api/analytics/latency", **asked, empty=True)[units],
        "skus": api.get("/api/analytics/skus", **of_range, limit=SKUS_SHOWN)["skus"],
    }


def sparkline(values: Sequence[float | None]) -> str:
    """Draw values as characters from nothing to the greatest; None is a gap."""
    most = max((value for value in values if value is not None), default=0)
    highest = len(BARS) - 1
    return "".join(
        " " if value is None else BARS[round(max(value, 0) / (most or 1) * highest)]
        for value in values
    )


def lines_of(found: Shown) -> list[tuple[str, str, int | float | None]]:
    """Return name, sparkline and newest value of what is drawn over time."""
    over_time, latency = found["timeseries"][-UNITS_SHOWN:], found["latency"][-UNITS_SHOWN:]
    drawn: list[tuple[str, list[Any]]] = [("accepted", [row["accepted"] for row in over_time])]
    for name in found["summary"]["outcomes"]:
        values = [row["outcomes"][name] for row in over_time]
        if any(values):
            drawn.append((name.lower(), values))
    drawn += [(f"{name} ms", [row[name] for row in latency]) for name in ("p50", "p99")]
    return [(name, sparkline(values), values[-1]) for name, values in drawn if values]


def _facts(summary: Shown) -> list[tuple[str, object]]:
    latency = summary["decisionLatencyMs"]
    return [
        *((name, summary[name]) for name in ("orders", "pending", "accepted") if name in summary),
        *((name.lower(), orders) for name, orders in summary["outcomes"].items()),
        ("decision p50 ms", latency["p50"]),
        ("decision p99 ms", latency["p99"]),
    ]


def _skus(found: Shown) -> list[tuple[object, ...]]:
    return [
        (row["sku"], row["sold"], row["lost"], percent(row["sellThrough"])) for row in found["skus"]
    ]


def percent(share: float | None) -> str:
    """Write a share for people."""
    return "" if share is None else f"{share:.1%}"


SKU_HEADINGS = ("sku", "sold", "lost", "sell-through")


def _print(found: Shown, unit: str) -> None:
    print_facts(_facts(found["summary"]))
    print()
    print_table(("", f"by {unit}, oldest first", "newest"), lines_of(found))
    print()
    print_table(SKU_HEADINGS, _skus(found))


def _watch_live(api: Api, asked: Shown) -> None:
    from rich.console import Group
    from rich.live import Live
    from rich.text import Text

    shown = Group()
    with Live(auto_refresh=False) as live:
        while True:
            try:
                shown = _drawn(numbers(api, asked), asked["unit"])
                live.update(shown, refresh=True)
            except Unavailable as error:  # What was seen last stays below.
                away = Text(printable(error), style="red")
                live.update(Group(away, shown), refresh=True)
            time.sleep(REFRESH_S)


def _drawn(found: Shown, unit: str) -> "Group":
    from rich.console import Group
    from rich.text import Text

    facts = "   ".join(f"{name} {value}" for name, value in _facts(found["summary"]) if value)
    return Group(
        Text(facts),
        Text(),
        rich_table(("", f"by {unit}, oldest first", "newest"), lines_of(found)),
        Text(),
        rich_table(SKU_HEADINGS, _skus(found)),
    )
