"""`replay`: a service reads again what it has read before."""

from collections.abc import Collection
from typing import TYPE_CHECKING, Annotated

import typer

from orderstream.cli import settings
from orderstream.cli.app import app
from orderstream.cli.output import AsJson, Yes, hint, print_json, print_table, read_time_ms
from orderstream.contract.errors import Unavailable

if TYPE_CHECKING:
    from orderstream.runtime.replay import Plan, Replay, Target


READERS = ("inventory", "view", "notification", "analytics")


@app.command()
def replay(
    service: Annotated[
        str,
        typer.Argument(metavar="SERVICE", help=f"{', '.join(READERS)}, or a consumer of your own."),
    ],
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
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Have a service read again; only while none of its workers runs.

    From the beginning, view and analytics are built anew, and come out the same. Inventory
    reserves nothing again, and notification tells nobody again. A consumer of your own handles all
    of it again and publishes none of it again; its tables are emptied first, from the beginning,
    if it is one that says rebuild=True. Nothing unread is passed over.
    """
    from orderstream.wiring.replays import replay_held_back, replay_of

    target = target_of(to)
    current = settings.load_resolved()
    own = service not in READERS
    if own:
        from orderstream.readers import own_consumers

        _check_name(service, own_consumers(current))
    if own and restart:
        raise typer.BadParameter(f"--restart: stop {service} yourself, where `run` runs it")
    job = replay_of(service, current)
    if not (restart or dry_run):
        _refuse_members(service, job)
    plan = job.plan(target)
    if not as_json:
        _print_plan(plan)
        if own and not plan.rebuild:
            hint("its rows are kept: what is read again is added to them")
    if not dry_run:
        again = sum(move.again for move in plan.moves)
        if not yes and not typer.confirm(f"read {again} offsets again?", err=True):
            raise typer.Exit(1)
        if restart:
            hint(f"stopping {service}; Kafka forgets its workers some seconds later")
            plan = replay_held_back(service, current, target)
        else:
            plan = job.plan(target)  # It may have gone on meanwhile.
            job.run(plan)
    if as_json:
        print_json(_document(service, plan, dry_run))
    elif not dry_run:
        print(f"{service} starts again" if restart else f"start {service} again when you like")


def _check_name(service: str, own: Collection[str]) -> None:
    if service not in own:
        known = ", ".join((*READERS, *own))
        raise typer.BadParameter(f"{service} has never read anything here; these have: {known}")


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
        ours = ", or say --restart where `orderstream up` runs it" if service in READERS else ""
        raise Unavailable(
            f"{service} runs: {', '.join(members)}; stop it{ours}. Kafka forgets a worker 6 s after"
            " it has stopped"
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
