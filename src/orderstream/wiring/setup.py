"""What each program sees to when it starts: its schemas, the topics, and that they fit together."""

from pathlib import Path

import structlog

import orderstream
from orderstream.contract.errors import Unavailable
from orderstream.flow import SCHEMAS
from orderstream.recovery.guard import ahead, made_anew
from orderstream.runtime.admin import Admin
from orderstream.runtime.migrations import migrate
from orderstream.runtime.settings import Settings

RECOVERY = "recovery"  # The schema that is no service's: which topics there were.

log = structlog.get_logger("orderstream.wiring")


def migrations(*schemas: str) -> dict[str, Path]:
    """Return the folders of migrations by schema; all of them when none is named."""
    package = Path(orderstream.__file__).parent
    every = schemas or (*SCHEMAS.values(), RECOVERY)
    return {schema: package / schema / "migrations" for schema in every}


def prepare(settings: Settings, *services: str) -> None:
    """Set up the topics and these services' schemas. Safe to repeat.

    Raises Unavailable: also for a store that was restored, until it has been reconciled, and for
    a topic that was made anew, until it is adopted.
    """
    admin = Admin(settings.kafka())
    refuse_restored(settings, admin)
    schemas = migrations(*(SCHEMAS[name] for name in services), RECOVERY)
    applied = migrate(settings.dsn(), schemas)
    created = admin.create_wanted(settings.topics_wanted(), settings.replication)
    refuse_made_anew(settings, admin)
    if applied or created:
        log.info("set up", migrations=applied, topics=created)


def refuse_restored(settings: Settings, admin: Admin) -> None:
    """Raise Unavailable for a database that is older than Kafka: it would sell things twice."""
    for place in ahead(settings, admin):
        raise Unavailable(
            f"the database is older than Kafka: {place.service} has read"
            f" {place.topic}[{place.partition}] up to {place.committed}, and the database knows of"
            f" {place.stored}. Was it restored, or is it another? Stop every service, and run"
            " `orderstream db reconcile`"
        )


def refuse_made_anew(settings: Settings, admin: Admin) -> None:
    """Raise Unavailable for a topic that is not the one that the stores were written by."""
    for topic in made_anew(settings, admin):
        raise Unavailable(
            f"{topic} is not the topic that the database knows: it was deleted and made anew. Stop"
            f" every service, and run `orderstream topics adopt {topic}`"
        )
