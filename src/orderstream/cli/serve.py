"""`serve`: one service, as a container runs it."""

import sys
from enum import StrEnum
from typing import Annotated

import typer

from orderstream.cli import settings
from orderstream.cli.app import app


class Service(StrEnum):
    """The services by name."""

    ORDER = "order"
    INVENTORY = "inventory"
    VIEW = "view"
    NOTIFICATION = "notification"
    ANALYTICS = "analytics"
    CONSOLE = "console"


@app.command()
def serve(service: Annotated[Service, typer.Argument(help="Which one.")]) -> None:
    """Run one service until SIGTERM or Ctrl-C."""
    from orderstream.runtime.logs import configure_logs
    from orderstream.runtime.observe import present

    current = settings.load_resolved()
    configure_logs(service, current.log_level, repeats_max=current.log_repeats)
    present(service, current.worker)
    # Each loads its own part of the wiring alone: what a service does not load costs no memory.
    match service:
        case Service.ORDER:
            from orderstream.wiring.order import serve_order

            sys.exit(serve_order(current))
        case Service.CONSOLE:
            from orderstream.wiring.console import serve_console

            sys.exit(serve_console(current))
        case _:
            from orderstream.wiring.stages import serve_stage

            sys.exit(serve_stage(service, current))


@app.command(hidden=True)
def read_feed(
    begins: Annotated[str | None, typer.Option(help="From behind this id; now.")] = None,
    ends: Annotated[str | None, typer.Option(help="Up to this id; for ever.")] = None,
) -> None:
    """Read the log for those who listen to all events; the order service starts this."""
    from orderstream.runtime.logs import configure_logs
    from orderstream.wiring.order import read_feed as read

    current = settings.load_resolved()
    configure_logs(
        "order",
        current.log_level,
        repeats_max=current.log_repeats,
        out=sys.stderr,  # The other has what is read.
    )
    read(current, begins, ends)
