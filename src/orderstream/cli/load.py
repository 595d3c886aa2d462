"""`load`: place many orders, by a timetable or as fast as they are answered, and measure it."""

import asyncio
import csv
import io
import re
import signal
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

import typer

from orderstream.cli import settings
from orderstream.cli.app import app
from orderstream.cli.output import (
    AsJson,
    Refused,
    api_of,
    hint,
    in_path,
    key_headers,
    print_facts,
    print_json,
    print_table,
)

if TYPE_CHECKING:
    from orderstream.cli.load_engine import Engine
    from orderstream.cli.load_plan import Plan, Tally
    from orderstream.cli.load_watch import Followed
    from orderstream.cli.output import Api
    from orderstream.runtime.settings import Settings

ORDERS = 10_000
PATH = "/api/orders"
PLENTY = 1_000_000_000
ENOUGH = 100_000_000  # A shelf with less is filled up: more than any run sells of one SKU.
SKUS_MAX = 9_999  # Numbered with four digits.
PROGRESS_EVERY_S = 0.25
NOT_FOUND = 404
_URL = re.compile("[!-?A-~]+")  # Visible ASCII, and no user name: it would not be sent.
DECIDED_WITHIN_S = 120.0


@app.command()
def load(
    orders: Annotated[
        int | None,
        typer.Option(min=1, help=f"How many; {ORDERS:,} unless --seconds says how long."),
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            max=1_000_000,
            help="Orders a second, by timetable; not set: as fast as it goes.",
        ),
    ] = None,
    connections: Annotated[int, typer.Option(min=1, max=10_000, help="HTTP connections.")] = 64,
    seconds: Annotated[
        float | None, typer.Option(min=0.1, help="End after so long, if not before.")
    ] = None,
    skus: Annotated[
        int,
        typer.Option(min=1, max=SKUS_MAX, help="Order LOAD-0001 and so on, each as often."),
    ] = 100,
    sku: Annotated[
        str | None, typer.Option(metavar="NAME", help="Order this SKU alone instead.")
    ] = None,
    quantity: Annotated[int, typer.Option(min=1, help="Of the SKU in each order.")] = 1,
    url: Annotated[
        str | None,
        typer.Option(help="Post there instead, and leave the stock as it is."),
    ] = None,
    accepted: Annotated[
        typer.FileBinaryWrite | None,
        typer.Option(mode="ab", help="Add each accepted order's answer to this file, one a line."),
    ] = None,
    until_decided: Annotated[
        bool,
        typer.Option(
            "--until-decided",
            help="Wait until all are decided, counted, notified and in the view.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Place many orders and measure how fast they are accepted.

    With --rate, latency counts from when an order was to be sent, so a service that stalls
    cannot hide it. Orders refused with 503 or 429 are sent again when the answer says. Exit code 1
    if any order could not be placed.
    """
    from orderstream.cli.load_engine import Engine
    from orderstream.cli.load_http import post_request
    from orderstream.cli.load_plan import Plan

    current = settings.load_resolved(database=False) if until_decided else settings.load()
    host, port, path = _target(url, current)
    names = [sku] if sku is not None else [f"LOAD-{n:04}" for n in range(1, skus + 1)]
    if url is None:
        fill_shelves(current, names, refill=sku is None)
    authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    ours = _target(None, current)[:2] == (host, port)
    signed = key_headers(current) if ours else {}  # A stranger is not to have the key.
    plan = Plan(
        host=host,
        port=port,
        requests=[
            post_request(authority, path, _order(user, name, quantity), signed)
            for user, name in enumerate(names, 1)
        ],
        connections=connections if orders is None else min(connections, orders),
        orders=ORDERS if orders is None and seconds is None else orders,
        seconds=seconds,
        rate=rate,
    )
    follow = None
    if until_decided:
        from orderstream.cli.load_watch import watch

        follow = watch(current)

    def keep(body: bytes, _since: float) -> None:
        if accepted is not None:
            accepted.writelines((body, b"\n"))

    engine = Engine(plan, None if accepted is None else keep)
    cpu_before = time.process_time()
    interrupted = _run(engine, plan)
    cpu_s = time.process_time() - cpu_before
    tally = engine.tally
    followed = None
    if follow is not None and tally.accepted and not interrupted:
        with _waiting():
            followed = follow.wait(tally.accepted, tally.last_accepted, DECIDED_WITHIN_S)
    report = report_of(tally, plan, cpu_s, followed)
    if as_json:
        print_json(report)
    else:
        _print(report)
    if interrupted:
        sys.exit(130)
    failed = tally.unplaced > 0 or tally.accepted == 0 or (followed and followed.missing)
    sys.exit(1 if failed else 0)


def _target(url: str | None, current: "Settings") -> tuple[str, int, str]:
    """Return host, port and path to post to. Raises BadParameter."""
    text = current.address("order") if url is None else url
    try:
        given = urlsplit(text)
        port = 80 if given.port is None else given.port
    except ValueError:  # A port out of range, or a bracket that is left open.
        raise _bad_url(text) from None
    if given.scheme != "http" or not given.hostname or not port or not _URL.fullmatch(text):
        raise _bad_url(text)
    path = given.path if given.path not in ("", "/") else PATH
    return given.hostname, port, path + (f"?{given.query}" if given.query else "")


def _bad_url(url: str) -> typer.BadParameter:
    return typer.BadParameter(f"--url {url}: write http://HOST:PORT, with a path or without")


def _order(user: int, sku: str, quantity: int) -> bytes:
    import msgspec

    return msgspec.json.encode({"userId": user, "items": [{"sku": sku, "qty": quantity}]})


def fill_shelves(current: "Settings", names: list[str], *, refill: bool) -> None:
    """Stock the SKUs that are new, and with `refill` those that could run out.

    Raises Unavailable or Refused.
    """
    from orderstream.cli.stock import IMPORT_TIMEOUT_S

    with api_of("inventory", current, IMPORT_TIMEOUT_S) as api:
        levels = _levels(api, names)
        wanted = [
            (name, (levels[name]["reserved"] if name in levels else 0) + PLENTY)
            for name in names
            if name not in levels or (refill and levels[name]["available"] < ENOUGH)
        ]
        if wanted:
            file = io.StringIO()
            csv.writer(file).writerows([("sku", "onHand"), *wanted])
            api.send(
                "POST",
                "/api/stock:import",
                content=file.getvalue().encode(),
                headers={"content-type": "text/csv"},
            )
            hint(f"stocked {len(wanted)} SKUs, {PLENTY:,} of each")


def _levels(api: "Api", names: list[str]) -> dict[str, dict[str, Any]]:
    """Return what is known of these SKUs, which are sorted."""
    if len(names) == 1:
        return _level(api, names[0])
    found: dict[str, dict[str, Any]] = {}
    after: str | None = names[0][:-1]  # Pages begin behind what is given, and this sorts before.
    while after is not None and after < names[-1]:
        page = api.get("/api/stock", after=after, limit=1000)
        found |= {level["sku"]: level for level in page["stock"]}
        after = page["nextAfter"]
    return found


def _level(api: "Api", name: str) -> dict[str, dict[str, Any]]:
    try:
        return {name: api.get(f"/api/stock/{in_path(name)}")}
    except Refused as error:
        if error.status == NOT_FOUND:
            return {}
        raise


# The run -------------------------------------------------------------------------------------


def _run(engine: "Engine", plan: "Plan") -> bool:
    """Run the plan; true when Ctrl-C ended it. Once ends it softly, twice at once."""
    interrupts = 0

    def on_interrupt() -> None:
        nonlocal interrupts
        interrupts += 1
        if interrupts == 1:
            engine.stop()
        else:
            engine.break_off()

    async def main(show: Callable[["Tally"], None] | None) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, on_interrupt)
        showing = None if show is None else asyncio.create_task(_show_on(engine, show))
        try:
            await engine.run()
        finally:
            if showing is not None:
                showing.cancel()

    with _progress(plan) as show, asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(main(show))
    return interrupts > 0


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:  # Windows.
        return None
    return uvloop.new_event_loop


async def _show_on(engine: "Engine", show: Callable[["Tally"], None]) -> None:
    while True:
        await asyncio.sleep(PROGRESS_EVERY_S)
        show(engine.tally)


@contextmanager
def _progress(plan: "Plan") -> Generator[Callable[["Tally"], None] | None]:
    """Give what shows progress on a terminal, or nothing when no person looks on."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    bar = Progress(
        TextColumn("placing orders"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        auto_refresh=False,  # Its thread would take time from what is measured.
        transient=True,
    )
    total = plan.orders if plan.seconds is None else None
    task = bar.add_task("", total=total if total is not None else plan.seconds)

    def show(tally: "Tally") -> None:
        took = max(time.perf_counter() - tally.began, 1e-6)
        more = f", {tally.retries:,} tried again" if tally.retries else ""
        more += f", {tally.unplaced:,} not placed" if tally.unplaced else ""
        said = f"{tally.accepted:,} accepted, {tally.accepted / took:,.0f}/s{more}"
        done = tally.accepted + tally.unplaced if total is not None else took
        bar.update(task, completed=done, description=said, refresh=True)

    with bar:
        yield show


@contextmanager
def _waiting() -> Generator[None]:
    from rich.console import Console

    with Console(stderr=True).status("waiting until all are decided, notified and in the view"):
        yield


# The report ----------------------------------------------------------------------------------


def report_of(
    tally: "Tally", plan: "Plan", cpu_s: float, followed: "Followed | None"
) -> dict[str, Any]:
    """Return what was measured, as `--json` prints it."""
    seconds = max(tally.ended - tally.began, 1e-9)
    report: dict[str, Any] = {
        "accepted": tally.accepted,
        "notPlaced": {
            "refused": tally.refused,
            "unknown": tally.unknown,
            "givenUp": tally.given_up,
            "unsent": tally.unsent,
        },
        "seconds": round(seconds, 3),
        "acceptedPerSecond": round(tally.accepted / seconds, 1),
        "rate": plan.rate,
        "connections": plan.connections,
        "answers": {str(status): count for status, count in sorted(tally.statuses.items())},
        "retries": tally.retries,
        "connectionsLost": tally.connections_lost,
        "connectsFailed": tally.connects_failed,
        "firstTrouble": tally.trouble or None,
        # From when the order was to be sent to its 202, times asked to wait included.
        "latencyMs": tally.from_schedule.shown_ms(),
        # From when the accepted try was sent.
        "answerMs": tally.from_sending.shown_ms(),
        "cpuMicrosecondsPerOrder": round(cpu_s * 1e6 / max(sum(tally.statuses.values()), 1), 1),
    }
    if followed is not None:
        report["doneAfterSeconds"] = {
            name: round(at - tally.began, 3) for name, at in followed.at.items()
        }
        report["notDone"] = list(followed.missing)
        if not followed.missing:
            whole = max(followed.at.values()) - tally.began
            report["endToEndSeconds"] = round(whole, 3)
            report["endToEndPerSecond"] = round(tally.accepted / whole, 1)
    return report


def _print(report: dict[str, Any]) -> None:
    lost = sum(report["notPlaced"].values())
    how = ", ".join(f"{count:,} {_WORDS[name]}" for name, count in report["notPlaced"].items())
    answers = ", ".join(f"{count:,} x {status}" for status, count in report["answers"].items())
    facts: list[tuple[str, object]] = [
        ("accepted", f"{report['accepted']:,} orders in {report['seconds']:.2f} s"),
        ("accepted/s", f"{report['acceptedPerSecond']:,.0f}"),
        ("answers", answers or "none"),
        ("tried again", f"{report['retries']:,}" if report["retries"] else None),
        ("not placed", f"{lost:,}: {how}" if lost else None),
        ("connections lost", report["connectionsLost"] or None),
        ("first trouble", report["firstTrouble"]),
        ("own CPU", f"{report['cpuMicrosecondsPerOrder']:.0f} us per request"),
    ]
    if "doneAfterSeconds" in report:
        done = report["doneAfterSeconds"]
        facts += [(f"{name} done after", f"{at:.2f} s") for name, at in done.items()]
        if report["notDone"]:
            facts.append(("not done", ", ".join(report["notDone"])))
        else:
            facts.append(
                (
                    "end to end",
                    f"{report['endToEndPerSecond']:,.0f} orders/s"
                    f" (all done after {report['endToEndSeconds']:.2f} s)",
                )
            )
    print_facts(facts)
    print()
    names = ("p50", "p90", "p99", "p99.9", "max")
    rows = [("to the 202", *(f"{report['latencyMs'][name]:.2f}" for name in names))]
    if report["rate"] or report["retries"]:
        rows.append(("from sending", *(f"{report['answerMs'][name]:.2f}" for name in names)))
    print_table(("latency, ms", *names), rows)


_WORDS = {
    "refused": "refused",
    "unknown": "of unknown outcome",
    "givenUp": "given up",
    "unsent": "not sent in time",
}
