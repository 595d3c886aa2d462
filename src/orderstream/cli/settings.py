"""Where the command gets its settings: the environment, then `.env`, then the defaults."""

import os
from pathlib import Path

from dotenv import dotenv_values

from orderstream.contract.errors import ConfigurationError
from orderstream.runtime.settings import Settings


def mapping() -> dict[str, str]:
    """Return what is set, by name: the environment wins over `.env` in the working folder."""
    from_file = {k: v for k, v in dotenv_values(Path(".env")).items() if v is not None}
    return from_file | dict(os.environ)


def source_of(name: str) -> str:
    """Say where a setting's value comes from."""
    if os.environ.get(name):
        return "environment"
    if dotenv_values(Path(".env")).get(name):
        return ".env"
    return "default"


def load() -> Settings:
    """Return the settings as they are set. Raises ConfigurationError listing every fault."""
    return Settings.load(mapping())


def load_resolved(*, kafka: bool = True, database: bool = True) -> Settings:
    """Return the settings with the addresses of the local servers, where none are set.

    Raises ConfigurationError when neither is set nor running.
    """
    settings = load()
    found: dict[str, str] = {}
    missing: list[str] = []
    if kafka and settings.kafka_bootstrap_servers is None:
        from orderstream.local import kafka as local_kafka

        status = local_kafka.status(settings.home)
        found["KAFKA_BOOTSTRAP_SERVERS"] = status.bootstrap_servers
        if not status.running:
            missing.append(
                "Kafka does not run here: start it with `orderstream up` or"
                " `orderstream kafka start`, or set KAFKA_BOOTSTRAP_SERVERS"
            )
    if database and settings.database_url is None:
        from orderstream.local import postgres

        server = postgres.status(settings.home)
        found["DATABASE_URL"] = server.dsn
        if not server.running:
            missing.append(
                "PostgreSQL does not run here: start it with `orderstream up` or"
                " `orderstream db start`, or set DATABASE_URL"
            )
    if missing:
        raise ConfigurationError(*missing)
    return Settings.load(mapping() | found)
