"""`db backup`, `db restore` and `db reconcile`: yesterday's database, and what Kafka has since."""

import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orderstream.cli import settings
from orderstream.cli.app import errors
from orderstream.cli.output import AsJson, Yes, hint, print_facts, print_json, print_table
from orderstream.cli.servers import client, db_app
from orderstream.contract.errors import Unavailable

if TYPE_CHECKING:
    from orderstream.recovery.reconcile import Reconciled

_SCHEMA = re.compile(r"^\d+; \d+ \d+ SCHEMA - (\S+) ", re.MULTILINE)


@db_app.command()
def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to; only you may read it.")],
) -> None:
    """Back up the database while everything runs: one moment of all stores, by pg_dump.

    Kafka is not in it. What is on its log since is put in by `db reconcile` after `db restore`.
    """
    dsn = settings.load_resolved(kafka=False).dsn()
    program, conninfo, environment = client("pg_dump", dsn)
    part = file.with_name(file.name + ".part")
    part.touch(0o600)  # Orders are customers' data.
    _run([program, "--format=custom", f"--file={part}", "--dbname", conninfo], environment)
    part.replace(file)
    print(f"{file}: {file.stat().st_size:,} bytes")


@db_app.command()
def restore(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", exists=True, help="What `db backup` wrote.")
    ],
) -> None:
    """Restore a backup into an empty database: all of it, or nothing.

    Stop every service first, and run `db reconcile` before any of them starts again.
    """
    import psycopg

    from orderstream.runtime.database import role_of
    from orderstream.runtime.migrations import make_role

    dsn = settings.load_resolved(kafka=False).dsn()
    program, conninfo, environment = client("pg_restore", dsn)
    schemas = _SCHEMA.findall(_run([program, "--list", str(file)], environment))
    try:
        with psycopg.connect(dsn, autocommit=True, connect_timeout=5) as connection:
            there = connection.execute(
                "SELECT nspname FROM pg_namespace WHERE nspname = ANY(%s)", (schemas,)
            ).fetchall()
            if there:
                raise Unavailable(
                    f"the database is not empty, it has {there[0][0]}: restore into a new one"
                )
            for schema in schemas:
                make_role(connection, role_of(schema))
    except psycopg.Error as error:
        raise Unavailable(f"PostgreSQL is away or refused: {error}") from error
    options = ["--no-owner", "--exit-on-error", "--single-transaction"]
    _run([program, *options, "--dbname", conninfo, str(file)], environment)
    print(f"restored {', '.join(sorted(schemas))}")
    hint("before any service starts: `orderstream db reconcile --dry-run`, then without")


def _run(command: list[str], environment: dict[str, str]) -> str:
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Unavailable(done.stderr.strip() or f"{command[0]} ended with {done.returncode}")
    return done.stdout


@db_app.command()
def reconcile(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be put in, and stop.")
    ] = False,
    despite_gaps: Annotated[
        bool,
        typer.Option(
            "--despite-gaps", help="Go on with what is left of the log: the rest is lost."
        ),
    ] = False,
    tell_again: Annotated[
        bool,
        typer.Option("--tell-again", help="Tell customers of what was in hand; some, twice."),
    ] = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Give a restored database what Kafka knows and the backup does not; while no service runs.

    Outcomes on the log are kept as they were said, ids and Idempotency-Keys stay given, and no
    customer is told again. The services read on from there by themselves. Done twice, it does
    nothing. Stock that was set by hand since the backup stands nowhere: set it again.
    """
    from orderstream.recovery.reconcile import reconcile as put_in
    from orderstream.runtime.migrations import migrate
    from orderstream.wiring.replays import own_replays
    from orderstream.wiring.setup import migrations

    current = settings.load_resolved()
    if not (dry_run or yes):
        typer.confirm("put in what the log knows?", abort=True, err=True)
    migrate(current.dsn(), migrations())
    with errors.status("reading the log"):
        found = put_in(
            current,
            own_replays(current),
            dry_run=dry_run,
            despite_gaps=despite_gaps,
            tell_again=tell_again,
        )
    if as_json:
        import msgspec

        print_json(msgspec.to_builtins(found))
    else:
        _print(found)


def _print(found: "Reconciled") -> None:
    print_facts(
        (
            ("orders since", f"{found.orders:,}"),
            ("decided", f"{found.decided:,}"),
            ("released", f"{found.released:,}"),
            ("shipped", f"{found.shipped:,}"),
            ("ended", f"{found.ended:,}"),
            ("claims", f"{found.claims:,}"),
            ("next order id", found.next_id),
            ("not told again", f"{found.not_told_again:,} records"),
            ("consumers", ", ".join(found.consumers) or "none"),
        )
    )
    for gap in found.gaps:
        hint(f"the log does not reach back: {gap}")
    if found.raised:
        print()
        print_table(
            ("sku", "on hand", "raised by"), [(r.sku, r.on_hand, r.by) for r in found.raised]
        )
        hint("more was given than the backup has on hand: count these, and set them")
    if not found.done:
        hint("nothing was changed")
