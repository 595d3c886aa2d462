"""`run`: a consumer of a user's own, beside the services."""

import sys
from dataclasses import replace
from enum import StrEnum
from typing import Annotated

import typer

from orderstream.cli import settings
from orderstream.cli.app import app
from orderstream.cli.output import AsJson, hint, print_json_lines, print_table
from orderstream.contract.errors import ConfigurationError

PORT_FIRST = 8090


class From(StrEnum):
    """Where a consumer starts that never ran."""

    BEGINNING = "beginning"
    END = "end"


@app.command()
def run(
    target: Annotated[
        str | None,
        typer.Argument(
            metavar="[TARGET]",
            help="MODULE:FUNCTION, or the name of an entry point; not given: list those.",
        ),
    ] = None,
    start: Annotated[
        From | None,
        typer.Option("--from", help="Where it starts if it never ran, instead of what it says."),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=65535,
            help=f"Port of /healthz, /readyz and /metrics; not set: a free one from {PORT_FIRST}.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run a consumer of your own until SIGTERM or Ctrl-C: a function with @consumer(...).

    Its module is looked for in the working folder first. Nothing else is changed or restarted. More
    workers of it take an ORDERSTREAM_WORKER each.
    """
    from orderstream.extension.finding import find

    if target is None:
        _list(as_json)
        return
    definition = find(target)
    if start is not None:
        definition = replace(definition, start=start.value)
    current = settings.load_resolved()

    from orderstream.local.processes import free_port
    from orderstream.runtime.logs import configure_logs
    from orderstream.runtime.observe import present
    from orderstream.wiring.consumers import serve_consumer

    if port is None:
        port = free_port(PORT_FIRST)
    elif free_port(port) != port:
        raise ConfigurationError(f"--port {port}: it is taken on this machine; choose another")
    configure_logs(definition.name, current.log_level, repeats_max=current.log_repeats)
    present(definition.name, current.worker)
    hint(f"{definition.name}: health and metrics on http://{current.host}:{port}")
    sys.exit(serve_consumer(definition, current, port))


def _list(as_json: bool) -> None:
    from orderstream.extension.finding import GROUP, installed

    found = installed()
    if as_json:
        print_json_lines({"name": point.name, "target": point.value} for point in found)
        return
    print_table(("name", "target"), [(point.name, point.value) for point in found])
    if not found:
        hint(f"no installed package has an entry point of {GROUP}: say MODULE:FUNCTION")
