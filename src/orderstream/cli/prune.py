"""`prune`: orders that are over are forgotten, so that the stores do not grow for ever."""

import re
from datetime import timedelta
from typing import Annotated

import typer

from orderstream.cli import settings
from orderstream.cli.app import app, errors
from orderstream.cli.output import AsJson, Yes, print_json

_UNITS = {"h": "hours", "d": "days"}


@app.command()
def prune(
    older_than: Annotated[
        str,
        typer.Option(metavar="AGE", help="How long ago they were over: 90d or 36h; 24h at least."),
    ],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Count what would be forgotten, and stop.")
    ] = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Forget orders that are over: rejected, cancelled, expired or fulfilled.

    The services go on meanwhile. Orders that are pending, failed or confirmed stay, and so do stock
    and what analytics counted. The log is not touched: its age is the topics' `retention.ms`.
    """
    import msgspec

    from orderstream.retention.prune import prune as forget
    from orderstream.runtime.clock import utc_now

    before = utc_now() - age_of(older_than)
    current = settings.load_resolved()
    if not (dry_run or yes):
        typer.confirm(
            f"forget all orders that were over before {before:%Y-%m-%d %H:%M} UTC?",
            abort=True,
            err=True,
        )
    with errors.status("looking for orders that are over") as status:
        found = forget(
            current,
            before,
            dry_run=dry_run,
            progress=lambda orders: status.update(f"{orders:,} orders"),
        )
    if as_json:
        print_json(msgspec.to_builtins(found))
    elif dry_run:
        print(f"{found.orders:,} orders would be forgotten")
    else:
        print(
            f"{found.orders:,} orders and {found.claims:,} claims forgotten, {found.seconds:.1f} s"
        )


def age_of(text: str) -> timedelta:
    """Read an age. Raises BadParameter."""
    match = re.fullmatch(r"([0-9]{1,5})([hd])", text.strip())
    age = timedelta(**{_UNITS[match[2]]: int(match[1])}) if match else timedelta()
    if age < timedelta(hours=24):
        raise typer.BadParameter(
            f"--older-than {text}: write days or hours, such as 90d or 36h, and 24h at least:"
            " an Idempotency-Key is kept that long"
        )
    return age
