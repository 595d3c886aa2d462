"""`replay`: a service reads again what it has read before."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from orderstream.cli import settings
from orderstream.cli.app import app
from orderstream.cli.output import AsJson, hint, print_json, print_table, read_time_ms
from orderstream.contract.errors import Unavailable

if TYPE_CHECKING:
    from orderstream.runtime.replay import Plan, Replay, Target


class Reader(StrEnum):
    """The services that read the log."""

    INVENTORY = "inventory"
    VIEW = "view"
    NOTIFICATION = "notification"
    ANALYTICS = "analytics"


@app.command()
def replay(
    service: Annotated[Reader, typer.Argument(help="Which one.")],
    to: Annotated[
        str,
        typer.Option(metavar="WHERE", help="`beginning`, a time (ISO 8601), or an offset."),
    ],
    restart: Annotated[
        bool,
        typer.Option("--restart", help="Stop it for that, and start it again, under `up` here."),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be read again, and stop.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Have a service read again; only while none of its workers runs.

    From the beginning, view and analytics are built anew, and come out the same. Inventory
    reserves nothing again, and notification tells nobody again. Nothing unread is passed over.
    """
    from orderstream import wiring

    target = target_of(to)
    current = settings.load_resolved()
    job = wiring.replay_of(service, current)
    if not (restart or dry_run):
        _refuse_members(service, job)
    plan = job.plan(target)
    if not as_json:
        _print_plan(plan)
    if not dry_run:
        again = sum(move.again for move in plan.moves)
        if not yes and not typer.confirm(f"read {again} offsets again?", err=True):
            raise typer.Exit(1)
        if restart:
            hint(f"stopping {service}; Kafka forgets its workers some seconds later")
            plan = wiring.replay_held_back(service, current, target)
        else:
            plan = job.plan(target)  # It may have gone on meanwhile.
            job.run(plan)
    if as_json:
        print_json(_document(service, plan, dry_run))
    elif not dry_run:
        print(f"{service} starts again" if restart else f"start {service} again when you like")


def target_of(text: str) -> "Target":
    """Read what `--to` says. Raises BadParameter."""
    from orderstream.runtime.replay import Target

    if text == "beginning":
        return Target()
    if text.isascii() and text.isdigit():
        return Target(int(text))
    try:
        return Target(time_ms=read_time_ms(text))
    except ValueError:
        raise typer.BadParameter(
            f"--to {text}: write beginning, an offset such as 120,"
            " or a time such as 2026-11-21T10:00:00Z"
        ) from None


def _refuse_members(service: str, job: "Replay") -> None:
    if members := job.members():
        raise Unavailable(
            f"{service} runs: {', '.join(members)}; stop it, or say --restart where `orderstream"
            " up` runs it. Kafka forgets a worker 6 s after it has stopped"
        )


def _print_plan(plan: "Plan") -> None:
    print_table(
        ("topic", "partition", "from", "to", "again"),
        [(move.topic, move.partition, move.before, move.to, move.again) for move in plan.moves],
    )
    if plan.rebuild:
        hint("its rows are emptied and built anew")
    if plan.cut:
        hint(
            f"the log's beginning was deleted of {', '.join(plan.cut)}: rows are kept, and what is"
            " read again is added where it is missing"
        )


def _document(service: str, plan: "Plan", dry_run: bool) -> dict[str, object]:
    return {
        "service": service,
        "done": not dry_run,
        "rebuild": plan.rebuild,
        "partitions": [
            {
                "topic": move.topic,
                "partition": move.partition,
                "from": move.before,
                "to": move.to,
                "again": move.again,
            }
            for move in plan.moves
        ],
    }
