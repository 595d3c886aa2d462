"""`kafka` and `db`: the real Apache Kafka and PostgreSQL of this machine."""

import os
import shutil
from typing import Annotated

import typer

from orderstream.cli import settings as cli_settings
from orderstream.cli.app import app
from orderstream.cli.output import AsJson, print_facts, print_json
from orderstream.contract.errors import ConfigurationError

kafka_app = typer.Typer(no_args_is_help=True, help="The local Apache Kafka: start, stop, status.")
db_app = typer.Typer(no_args_is_help=True, help="The local PostgreSQL, and any one's schemas.")
app.add_typer(kafka_app, name="kafka")
app.add_typer(db_app, name="db")


def _print(facts: dict[str, object], as_json: bool) -> None:
    if as_json:
        print_json(facts)
    else:
        print_facts(facts.items())


@kafka_app.command("start")
def kafka_start(
    brokers: Annotated[int, typer.Option(help="1, or 3 that copy one another.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Start Kafka and return when it answers; it goes on after this command ends."""
    from orderstream.cli.up import fetching
    from orderstream.local import kafka

    settings = cli_settings.load()
    if settings.kafka_bootstrap_servers is not None:
        raise ConfigurationError(
            f"KAFKA_BOOTSTRAP_SERVERS is set to {settings.kafka_bootstrap_servers}:"
            " that Kafka is used; unset it to run a local one"
        )
    with fetching() as progress:
        kafka.start(settings.home, brokers=brokers, port=settings.port_kafka, progress=progress)
    kafka_status(as_json)


@kafka_app.command("stop")
def kafka_stop() -> None:
    """Stop Kafka; its data is kept."""
    from orderstream.local import kafka

    stopped = kafka.stop(cli_settings.load().home)
    typer.echo("Kafka is stopped; its data is kept." if stopped else "Kafka was not running.")


@kafka_app.command("status")
def kafka_status(as_json: AsJson = False) -> None:
    """Say whether Kafka runs, and where."""
    from orderstream.local import kafka

    status = kafka.status(cli_settings.load().home)
    _print(
        {
            "running": status.running,
            "bootstrapServers": status.bootstrap_servers,
            "brokers": status.brokers,
            "pids": list(status.pids),
            "readySeconds": status.ready_s,
            "data": str(status.data),
        },
        as_json,
    )


@db_app.command("start")
def db_start(as_json: AsJson = False) -> None:
    """Start PostgreSQL and return when it answers; it goes on after this command ends."""
    from orderstream.local import postgres

    settings = cli_settings.load()
    if settings.database_url is not None:
        raise ConfigurationError(
            "DATABASE_URL is set: that PostgreSQL is used; unset it to run a local one"
        )
    settings.home.mkdir(parents=True, exist_ok=True)
    postgres.start(settings.home)
    db_status(as_json)


@db_app.command("stop")
def db_stop() -> None:
    """Stop PostgreSQL; its data is kept."""
    from orderstream.local import postgres

    stopped = postgres.stop(cli_settings.load().home)
    said = "PostgreSQL is stopped; its data is kept." if stopped else "PostgreSQL was not running."
    typer.echo(said)


@db_app.command("status")
def db_status(as_json: AsJson = False) -> None:
    """Say whether PostgreSQL runs, and where."""
    from orderstream.local import postgres

    status = postgres.status(cli_settings.load().home)
    _print(
        {
            "running": status.running,
            "version": status.version,
            "dsn": status.dsn,
            "pid": status.pid,
            "data": str(status.data),
        },
        as_json,
    )


@db_app.command("migrate")
def db_migrate() -> None:
    """Bring every schema up to date; services also do this for themselves when they start."""
    from orderstream.runtime.migrations import migrate
    from orderstream.wiring.setup import migrations

    applied = migrate(cli_settings.load_resolved(kafka=False).dsn(), migrations())
    for name in applied:
        typer.echo(f"applied {name}")
    if not applied:
        typer.echo("Every schema is up to date.")


@db_app.command(
    "shell", context_settings={"allow_extra_args": True, "ignore_unknown_options": True}
)
def db_shell(context: typer.Context) -> None:
    """Open psql on the database; what follows is passed on: `db shell -c 'SELECT 1'`."""
    psql, conninfo, environment = client("psql", cli_settings.load_resolved(kafka=False).dsn())
    os.execve(psql, [psql, conninfo, *context.args], environment)


def client(name: str, dsn: str) -> tuple[str, str, dict[str, str]]:
    """Return a program of PostgreSQL's, what to connect to, and the environment it needs.

    Raises ConfigurationError where TLS is asked for and only the bundled one is there.
    """
    from psycopg.conninfo import conninfo_to_dict, make_conninfo

    from orderstream.local.postgres_folder import program

    parts = conninfo_to_dict(dsn)
    # Everybody on this machine may read a command line, and nobody else an environment.
    password = parts.pop("password", None)
    secret = {} if password is None else {"PGPASSWORD": str(password)}
    if parts.get("sslmode") in ("require", "verify-ca", "verify-full"):
        path = shutil.which(name)
        if not path:
            raise ConfigurationError(
                f"DATABASE_URL: it asks for TLS, and the {name} that comes with orderstream has"
                f" none: install {name}"
            )
    else:
        path = str(program(name))
    return path, make_conninfo("", **parts), os.environ | secret
