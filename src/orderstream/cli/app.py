"""The command's root: what every subcommand shares, and how errors end."""

import os
import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from orderstream import __version__
from orderstream.contract.errors import ConfigurationError, OrderstreamError

app = typer.Typer(
    name="orderstream",
    help="Orders as a stream of events on Apache Kafka: never lost, never doubled, never oversold.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
errors = Console(stderr=True, highlight=False)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"orderstream {__version__}")
        raise typer.Exit


@app.callback()
def root(
    preset: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Settings of a topology, as ORDERSTREAM_PRESET."),
    ] = None,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Hold the options of every command."""
    del version  # Answered already.
    if preset is not None:
        os.environ["ORDERSTREAM_PRESET"] = preset


def _say(message: str) -> None:
    """Print an error as it is: no markup is read in it, and no line is broken."""
    errors.print(Text.assemble(("orderstream:", "red"), " ", message), soft_wrap=True)


def main() -> None:
    """Run the command; exit 0 when done, 1 when it failed, 2 when it was called wrongly."""
    from orderstream.cli import commands  # Registers the subcommands.

    del commands
    try:
        app()
    except ConfigurationError as error:
        for fault in error.faults:
            _say(fault)
        sys.exit(2)
    except OrderstreamError as error:
        _say(str(error))
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
