"""`dlt redrive` and `dlt discard`: how what failed for good is put right."""

import getpass
import json
import os
import shlex
import subprocess
import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orderstream.cli.app import errors
from orderstream.cli.dlt import (
    Group,
    Order,
    Reason,
    Since,
    Topic,
    Until,
    desk_of,
    dlt,
    place_of,
    pretty,
    wanted_of,
)
from orderstream.cli.output import AsJson, print_json
from orderstream.contract.errors import Malformed, Unavailable

if TYPE_CHECKING:
    from orderstream.dead_letters.desk import Change, Done
    from orderstream.dead_letters.rules import DeadLetter, Place, Wanted

NAMED_MAX = 5

Places = Annotated[
    list[str] | None,
    typer.Argument(metavar="PLACE", help="TOPIC[PARTITION]@OFFSET of each, as `list` shows it."),
]
Everything = Annotated[bool, typer.Option("--all", help="All that are open.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say how many it would be, and stop.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before many.")]


@dlt.command()
def redrive(
    places: Places = None,
    everything: Everything = False,
    topic: Topic = None,
    reason: Reason = None,
    order: Order = None,
    group: Group = None,
    since: Since = None,
    until: Until = None,
    to: Annotated[
        str | None, typer.Option(metavar="TOPIC", help="There, instead of where it came from.")
    ] = None,
    edit: Annotated[
        bool, typer.Option("--edit", help="Change the payload of one in $EDITOR before.")
    ] = False,
    value: Annotated[
        str | None, typer.Option(metavar="TEXT", help="The payload of one, instead.")
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="PATH=JSON", help="Change a part of one's payload: items[0].qty=2."
        ),
    ] = None,
    note: Annotated[str, typer.Option(metavar="TEXT", help="Why, for whoever looks later.")] = "",
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Try dead letters again: put each back to the topic that it came from, once.

    It has all its tries again, and keeps its history. What is redriven already is passed over, so
    the same command may be given again, and two may be given at once.
    """
    from orderstream.dead_letters.desk import Change

    wanted = wanted_of(reason, order, group, since, until)
    work = _Work(places or [], everything, topic, wanted)
    change = Change(getpass.getuser(), note, to)
    if edit or value is not None or changes:
        letter = work.the_only_one()
        payload = letter.value if value is None else value.encode()
        if changes:
            payload = _set(payload, changes)
        if edit:
            payload = _in_editor(payload)
        change = Change(change.by, note, to, payload)
    _do(work, change, "redrive", dry_run, yes, as_json)


@dlt.command()
def discard(
    note: Annotated[str, typer.Option(metavar="TEXT", help="Why, for whoever looks later.")],
    places: Places = None,
    everything: Everything = False,
    topic: Topic = None,
    reason: Reason = None,
    order: Order = None,
    group: Group = None,
    since: Since = None,
    until: Until = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Say that dead letters need not be tried again; they stay where they are, marked so."""
    from orderstream.dead_letters.desk import Change

    wanted = wanted_of(reason, order, group, since, until)
    work = _Work(places or [], everything, topic, wanted)
    _do(work, Change(getpass.getuser(), note, discard=True), "discard", dry_run, yes, as_json)


class _Work:
    """The dead letters that a command is about: those named, or those that fit a filter."""

    def __init__(
        self, places: list[str], everything: bool, topic: str | None, wanted: "Wanted"
    ) -> None:
        from orderstream.dead_letters.rules import Wanted

        some = bool(topic) or wanted != Wanted()
        if bool(places) + everything + some != 1:
            raise typer.BadParameter("say which: PLACE..., a filter such as --order, or --all")
        self.desk = desk_of()
        self._places = [place_of(text) for text in places]
        self._topic, self._wanted = topic, wanted

    def letters(self) -> Iterator["DeadLetter"]:
        """Look them up, anew each time."""
        if self._places:
            yield from (self.desk.get(place).letter for place in self._places)
        else:
            yield from (found.letter for found in self.desk.find(self._wanted, self._topic))

    def the_only_one(self) -> "DeadLetter":
        """Return the one to be changed. Raises BadParameter when there are more."""
        letters = list(islice(self.letters(), 2))
        if len(letters) != 1:
            many = "more than one fits" if letters else "none fits"
            raise typer.BadParameter(f"a payload can be changed for one dead letter, and {many}")
        return letters[0]


def _do(work: _Work, change: "Change", verb: str, dry_run: bool, yes: bool, as_json: bool) -> None:
    if dry_run:
        would = work.desk.look(work.letters(), change)
        if as_json:
            print_json({verb: 0, "would": would.now, **would.rest()})
        else:
            print(f"would {verb} {would.now} dead letter{'' if would.now == 1 else 's'}")
        _complain(would)
        return
    total = sum(1 for _ in work.letters())
    if total > 1 and not yes and not typer.confirm(f"{verb} {total} dead letters?", err=True):
        raise typer.Exit(1)
    with _bar(verb, total) as progress:
        done = work.desk.handle(islice(work.letters(), total), change, progress)
    if as_json:
        print_json({verb: done.now, **done.rest()})
    else:
        print(said_of(done, verb))
    _complain(done)


def _complain(done: "Done") -> None:
    if done.nowhere:
        raise Unavailable(_nowhere(done.nowhere))


def said_of(done: "Done", verb: str) -> str:
    """Say in a line what was done."""
    said = f"{done.now} {'discarded' if verb == 'discard' else 'redriven'}"
    return f"{said}, {done.before} had been handled before" if done.before else said


def _nowhere(places: list["Place"]) -> str:
    named = ", ".join(str(place) for place in places[:NAMED_MAX])
    more = f" and {len(places) - NAMED_MAX} more" if len(places) > NAMED_MAX else ""
    return f"{named}{more}: no topic is named that is there, so say where with --to TOPIC"


@contextmanager
def _bar(verb: str, total: int) -> Generator[Callable[[int], None]]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn(verb), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal) as bar:
        task = bar.add_task(verb, total=total)
        yield lambda done: bar.update(task, completed=done)


# Changing a payload ----------------------------------------------------------------------------


def _set(payload: bytes | None, changes: list[str]) -> bytes:
    from orderstream.dead_letters.rules import edited

    pairs = [(path, new) for path, _, new in (change.partition("=") for change in changes)]
    try:
        return edited(payload, pairs)
    except Malformed as error:
        raise typer.BadParameter(f"--set {error}") from None


def _in_editor(payload: bytes | None) -> bytes | None:
    """Have a person change the payload; what is saved unchanged stays as it was, byte for byte."""
    try:
        before = pretty(payload or b"")
        before.encode()
        (payload or b"").decode()
    except UnicodeError:
        raise typer.BadParameter("the payload is not text: give another by --value") from None
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "payload.json"
        file.write_text(before, "utf-8")
        try:
            subprocess.run([*shlex.split(editor), str(file)], check=True)
        except (OSError, ValueError, subprocess.CalledProcessError) as error:
            raise Unavailable(f"the editor failed, nothing was done: {error}") from None
        try:
            after = file.read_text("utf-8")
        except UnicodeError:
            raise Unavailable("what was saved is not UTF-8, nothing was done") from None
    if after.rstrip("\n") == before.rstrip("\n"):  # Many editors end the last line.
        return payload
    try:
        return json.dumps(json.loads(after), ensure_ascii=False, separators=(",", ":")).encode()
    except ValueError:
        return after.rstrip("\n").encode()
