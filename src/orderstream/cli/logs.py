"""`logs`: how much a service says, without starting it again."""

from enum import StrEnum
from typing import Annotated

import typer

from orderstream.cli import settings
from orderstream.cli.app import app
from orderstream.cli.output import AsJson, api_of, in_path, print_json_lines, print_table
from orderstream.cli.serve import Service

logs = typer.Typer(help="What services log.", no_args_is_help=True)
app.add_typer(logs, name="logs")


class Level(StrEnum):
    """The least that is logged; INHERIT: that of the logger above."""

    DEBUG = "DEBUG"
    INFO = "INFO"
    WARNING = "WARNING"
    ERROR = "ERROR"
    CRITICAL = "CRITICAL"
    INHERIT = "INHERIT"


@logs.command("level")
def level(
    service: Annotated[Service, typer.Argument(help="Which one.")],
    logger: Annotated[
        str | None, typer.Argument(metavar="[LOGGER]", help="orderstream.kafka; not given: list.")
    ] = None,
    to: Annotated[
        Level | None, typer.Argument(metavar="[LEVEL]", help="From now on; INHERIT: as above it.")
    ] = None,
    at: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS", help="Of one worker, http://HOST:PORT; the settings' if not given."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show the levels of a process's loggers, or set one: until it ends, and of this process only.

    `orderstream` is all that is ours, `root` all there is.
    """
    if logger is not None and to is None:
        raise typer.BadParameter("say the level, too", param_hint="LEVEL")
    with api_of(service, settings.load(), at=at) as api:
        if logger is None:
            found = api.get("/api/loggers")["loggers"]
        else:
            wanted = {"level": None if to is Level.INHERIT else to}
            found = [api.read(api.send("PUT", f"/api/loggers/{in_path(logger)}", json=wanted))]
    if as_json:
        print_json_lines(found)
        return
    rows = ((one["name"], one["level"], one["effective"]) for one in found)
    print_table(("logger", "level", "effective"), rows)
