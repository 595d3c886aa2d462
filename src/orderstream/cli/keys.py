"""`keys new`: an API key and the hash of it."""

from enum import StrEnum
from typing import Annotated

import typer

from orderstream.cli.app import app
from orderstream.cli.output import AsJson, on_terminal, print_json
from orderstream.contract.errors import Malformed

keys_app = typer.Typer(help="API keys of those who use the services.", no_args_is_help=True)
app.add_typer(keys_app, name="keys")


class RoleName(StrEnum):
    """The roles by name."""

    CLIENT = "client"
    VIEWER = "viewer"
    OPERATOR = "operator"


@keys_app.command("new")
def new(
    name: Annotated[str, typer.Argument(help="Whose key it is; orders belong to this name.")],
    role: Annotated[
        RoleName,
        typer.Option(
            help="client: own orders only; viewer: reads everything; operator: does everything."
        ),
    ] = RoleName.CLIENT,
    as_json: AsJson = False,
) -> None:
    """Make an API key: print it, once, and the entry for ORDERSTREAM_API_KEYS.

    Nothing is kept or sent anywhere. The entry has only the key's hash, and lets nobody in.
    """
    from orderstream.runtime.keys import new_key

    try:
        key, entry = new_key(name, role.value)
    except Malformed as error:
        raise typer.BadParameter(str(error)) from None
    if as_json:
        print_json({"key": key, "entry": str(entry)})
        return
    print(f"key    {key}")
    print(f"entry  {entry}")
    if on_terminal():
        typer.echo(
            "\nGive the key to whoever is to use it: it is not shown again. Add the entry to"
            " ORDERSTREAM_API_KEYS\nof every service, behind a comma, and start them again.",
            err=True,
        )
