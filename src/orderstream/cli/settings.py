"""Where the command gets its settings: the environment, `.env`, a preset, the defaults."""

import os
from collections.abc import Mapping
from pathlib import Path

from dotenv import dotenv_values

import orderstream
from orderstream.contract.errors import ConfigurationError
from orderstream.runtime.settings import Settings, is_set

PRESET = "ORDERSTREAM_PRESET"
PRESETS = Path(orderstream.__file__).parent / "presets"


def mapping() -> dict[str, str]:
    """Return what is set, by name: the environment wins over `.env` in the working folder.

    Both win over the preset that they name. An empty value is as good as none and hides nothing,
    except where empty means something. Raises ConfigurationError where there is no such preset.
    """
    own = _own()
    return preset(own.get(PRESET)) | own


def source_of(name: str) -> str:
    """Say where a setting's value comes from."""
    if is_set(name, os.environ.get(name)):
        return "environment"
    if is_set(name, _file().get(name)):
        return ".env"
    own = _own()
    if name in preset(own.get(PRESET)):
        return f"preset {own[PRESET]}"
    return "default"


def presets() -> list[str]:
    """Return the names of the presets."""
    return sorted(path.stem for path in PRESETS.glob("*.env"))


def preset(name: str | None) -> dict[str, str]:
    """Return the settings of a preset. Raises ConfigurationError where there is none."""
    if name is None:
        return {}
    if name not in presets():
        raise ConfigurationError(f"{PRESET}: there is no {name}, but {', '.join(presets())}")
    return _set_in(dotenv_values(PRESETS / f"{name}.env"))


def _own() -> dict[str, str]:
    return _set_in(_file()) | _set_in(os.environ)


def _file() -> dict[str, str | None]:
    return dotenv_values(Path(".env"))


def _set_in(values: Mapping[str, str | None]) -> dict[str, str]:
    return {k: v for k, v in values.items() if v is not None and is_set(k, v)}


def load() -> Settings:
    """Return the settings as they are set. Raises ConfigurationError listing every fault."""
    return Settings.load(mapping())


def load_resolved(*, kafka: bool = True, database: bool = True) -> Settings:
    """Return the settings with the addresses of the local servers, where none are set.

    Only for the servers that are asked for. Raises ConfigurationError when one of them is neither
    set nor running.
    """
    given = mapping()
    settings = Settings.load(given)
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
    return Settings.load(given | found)
