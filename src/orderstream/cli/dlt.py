"""`dlt list` and `dlt show`: what failed for good, and why."""

import json
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer

from orderstream.cli import settings
from orderstream.cli.app import app
from orderstream.cli.output import (
    AsJson,
    hint,
    print_facts,
    print_json,
    print_json_lines,
    print_table,
    printable,
    read_time_ms,
)
from orderstream.contract.errors import Malformed

if TYPE_CHECKING:
    from orderstream.dead_letters.desk import DeadLetters, Found
    from orderstream.dead_letters.rules import DeadLetter, Handled, Place, Wanted

dlt = typer.Typer(help="Show, redrive and discard dead letters.", no_args_is_help=True)
app.add_typer(dlt, name="dlt")

Topic = Annotated[
    str | None, typer.Option(help="Only of this topic; else of every topic of the flow.")
]
Reason = Annotated[
    str | None, typer.Option(metavar="TEXT", help="Only where the error has this text.")
]
Order = Annotated[str | None, typer.Option(metavar="ID", help="Only of this order, or this key.")]
Group = Annotated[
    str | None, typer.Option(metavar="NAME", help="Only what this consumer group gave up on.")
]
Since = Annotated[
    str | None, typer.Option("--from", metavar="TIME", help="Only from this time on (ISO 8601).")
]
Until = Annotated[str | None, typer.Option("--to-time", metavar="TIME", help="Only before it.")]

# list and show -----------------------------------------------------------------------------


@dlt.command("list")
def list_dead_letters(
    topic: Topic = None,
    reason: Reason = None,
    order: Order = None,
    group: Group = None,
    since: Since = None,
    until: Until = None,
    handled: Annotated[
        bool, typer.Option("--handled", help="Also those redriven or discarded.")
    ] = False,
    reasons: Annotated[
        bool, typer.Option("--reasons", help="One line for each reason, with how many.")
    ] = False,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 100,
    as_json: AsJson = False,
) -> None:
    """List dead letters that nobody has handled yet; the parts given must all fit."""
    from orderstream.dead_letters.shown import shown

    wanted = wanted_of(reason, order, group, since, until)
    found = desk_of().find(wanted, topic, handled=handled)
    if reasons:
        _print_reasons(found, as_json)
        return
    listed = list(islice(found, limit + 1))
    if as_json:
        print_json_lines(shown(entry) for entry in listed[:limit])
    else:
        headings = ("place", "order", "parked", "times", "group", "reason", "handled")
        print_table(headings, (_row(entry) for entry in listed[:limit]))
    if len(listed) > limit:
        hint(f"there are more than these {limit}: ask for a higher --limit, or for --reasons")


def _row(found: "Found") -> tuple[object, ...]:
    letter, done = found.letter, found.handled
    return (
        letter.place,
        letter.order or "unknown",
        _time(letter.parked_ms),
        len(letter.passes),
        letter.origin.group or "unknown",
        _why(letter),
        f"{done.action} by {done.by}" if done else None,
    )


def _print_reasons(found: Iterable["Found"], as_json: bool) -> None:
    counts: Counter[tuple[str, str, str, str]] = Counter()
    for entry in found:
        letter = entry.letter
        parts = (letter.place.topic, letter.origin.group, letter.exception, letter.pattern)
        counts[tuple(part or "unknown" for part in parts)] += 1  # pyright: ignore[reportArgumentType]
    names = ("number", "topic", "group", "exception", "reason")
    rows = [(number, *of) for of, number in counts.most_common()]
    if as_json:
        print_json_lines(dict(zip(names, row, strict=True)) for row in rows)
    else:
        print_table(names, rows)


@dlt.command()
def show(
    place: Annotated[str, typer.Argument(metavar="PLACE", help="TOPIC[PARTITION]@OFFSET.")],
    as_json: AsJson = False,
) -> None:
    """Show one dead letter: its payload, its headers, the stack trace, and what was done."""
    from orderstream.dead_letters.shown import shown_whole

    found = desk_of().get(place_of(place))
    if as_json:
        print_json(shown_whole(found))
        return
    letter, done = found.letter, found.handled
    passes = ", ".join(f"{p.topic}[{p.partition}]@{p.offset} by {p.group}" for p in letter.passes)
    print_facts(
        (
            ("place", letter.place),
            ("order", letter.order or "unknown"),
            ("parked", _time(letter.parked_ms)),
            ("failed at", passes or "unknown"),
            ("reason", _why(letter)),
            ("handled", _what_was(done) if done else "no"),
            ("note", (done and done.note) or None),
        )
    )
    print("\npayload")
    for line in pretty(letter.value).split("\n"):
        print(printable(line))
    print("\nheaders")
    whole = shown_whole(found)
    print_facts(
        (f"  {header['name']}", header["value"])
        for header in whole["headers"]
        if not header["name"].endswith("stacktrace")
    )
    if letter.stacktrace:
        print("\nstack trace")
        for line in letter.stacktrace.splitlines():
            print(f"  {printable(line)}")


# Reading what was typed ----------------------------------------------------------------------


def wanted_of(
    reason: str | None, order: str | None, group: str | None, since: str | None, until: str | None
) -> "Wanted":
    """Return the filter that the options make. Raises BadParameter."""
    from orderstream.dead_letters.rules import Wanted

    return Wanted(reason, order, group, _ms(since, "--from"), _ms(until, "--to-time"))


def _ms(text: str | None, option: str) -> int | None:
    if text is None:
        return None
    try:
        return read_time_ms(text)
    except ValueError:
        said = f"{option} {text}: write a time such as 2026-11-21 or 2026-11-21T10:00:00Z"
        raise typer.BadParameter(said) from None


def place_of(text: str) -> "Place":
    """Read a place. Raises BadParameter."""
    from orderstream.dead_letters.rules import parse_place

    try:
        return parse_place(text)
    except Malformed as error:
        raise typer.BadParameter(str(error)) from None


def pretty(payload: bytes | None) -> str:
    """Write a payload for people: JSON is indented."""
    try:
        return json.dumps(json.loads(payload or b""), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return "-" if payload is None else payload.decode(errors="backslashreplace")


def _what_was(done: "Handled") -> str:
    said = f"{done.action} by {done.by} at {done.at:%FT%TZ}"
    to = f" to {done.to}" if done.to else ""
    return f"{said}{to}{', changed' if done.edited else ''}"


def _why(letter: "DeadLetter") -> str:
    if letter.exception is None and letter.reason is None:
        return "unknown"
    return f"{(letter.exception or 'unknown').rpartition('.')[2]}: {letter.reason or ''}"


def _time(time_ms: int) -> str:
    at = datetime.fromtimestamp(time_ms / 1000, UTC)
    return at.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def desk_of() -> "DeadLetters":
    """Return the dead letters of the Kafka that is set, or runs here."""
    from orderstream.wiring.dead_letters import dead_letters

    return dead_letters(settings.load_resolved(database=False))
