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


@app.command()
def serve(service: Annotated[Service, typer.Argument(help="Which one.")]) -> None:
    """Run one service until SIGTERM or Ctrl-C."""
    from orderstream import wiring
    from orderstream.runtime.observe import configure_logs

    current = settings.load_resolved()
    configure_logs(service, current.log_level)
    if service is Service.ORDER:
        sys.exit(wiring.serve_order(current))
    sys.exit(wiring.serve_stage(service, current))
