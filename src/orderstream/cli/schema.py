"""`schema`: what is on the topics, for programs in other languages."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from orderstream.cli import settings
from orderstream.cli.app import app
from orderstream.cli.output import print_json_lines


@app.command()
def schema(
    event: Annotated[
        str | None,
        typer.Argument(metavar="EVENT", help="Type of event: `order.created` or `OrderCreated`."),
    ] = None,
    form: Annotated[
        Literal["asyncapi", "jsonschema"] | None,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help="`asyncapi`, or `jsonschema`: of an EVENT, or of every event, one a line.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="FOLDER", help="Write files there: both formats, unless one is named."
        ),
    ] = None,
) -> None:
    """Print the contract: AsyncAPI 3.0 of all topics, or the JSON Schema (2020-12) of an EVENT.

    Made from the types of the events; topics, groups and brokers have the names that are set.
    Needs no server.
    """
    from orderstream.asyncapi import FILE, documents, written

    found = documents(settings.load())
    if event is not None:
        if form == "asyncapi":
            raise typer.BadParameter("AsyncAPI is of all events: leave EVENT out")
        found = _of_event(found, event)
    elif form is not None or out is None:
        found = {name: d for name, d in found.items() if (name == FILE) != (form == "jsonschema")}
    if out is not None:
        try:
            out.mkdir(parents=True, exist_ok=True)
            for name, document in found.items():
                (out / name).write_text(written(document), "utf-8")
                print(out / name)
        except OSError as error:
            raise typer.BadParameter(f"{out}: {error.strerror}") from None
    elif event is None and form == "jsonschema":
        print_json_lines(found.values())
    else:
        for document in found.values():
            print(written(document), end="")


def _of_event(found: dict[str, Any], event: str) -> dict[str, Any]:
    """Return the one document of an event, by its type or the name of its class."""
    from orderstream.contract.events import EVENTS
    from orderstream.contract.schemas import file_name

    for event_type, kind in EVENTS.items():
        if event in (event_type, kind.__name__):
            name = file_name(event_type)
            return {name: found[name]}
    raise typer.BadParameter(f"there is no event {event!r}: {', '.join(EVENTS)}")
