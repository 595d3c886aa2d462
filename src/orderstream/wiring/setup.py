"""What several programs have in common: schemas and topics, Redis, dead letters, garbage."""

import gc
from pathlib import Path

import structlog

import orderstream
from orderstream.contract.errors import Unavailable
from orderstream.dead_letters.desk import DeadLetters
from orderstream.flow import SCHEMAS
from orderstream.inventory.store_postgres import PostgresStock
from orderstream.recovery.guard import ahead, made_anew
from orderstream.runtime.admin import Admin
from orderstream.runtime.clock import utc_now
from orderstream.runtime.database import Database
from orderstream.runtime.hints import Hints
from orderstream.runtime.migrations import migrate
from orderstream.runtime.observe import Check
from orderstream.runtime.settings import Settings

RECOVERY = "recovery"  # The schema that is no service's: which topics there were.

# What a new local installation has on its shelves, so that the README's orders can be placed.
DEMO_CATALOGUE = (
    ("ABC-001", 1_000_000),
    ("ABC-002", 1_000_000),
    ("P-1", 1_000_000),
    ("laptop", 500_000),
    ("MUG", 250_000),
    ("T-SHIRT", 250_000),
    ("RARE-1", 3),
    ("FAIL", 1_000),
)

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
    refuse_restored(settings)
    schemas = migrations(*(SCHEMAS[name] for name in services), RECOVERY)
    applied = migrate(settings.dsn(), schemas)
    created = Admin(settings.kafka()).create_wanted(settings.topics_wanted(), settings.replication)
    refuse_made_anew(settings)
    if applied or created:
        log.info("set up", migrations=applied, topics=created)


def refuse_restored(settings: Settings) -> None:
    """Raise Unavailable for a database that is older than Kafka: it would sell things twice."""
    for place in ahead(settings):
        raise Unavailable(
            f"the database is older than Kafka: {place.service} has read"
            f" {place.topic}[{place.partition}] up to {place.committed}, and the database knows of"
            f" {place.stored}. Was it restored, or is it another? Stop every service, and run"
            " `orderstream db reconcile`"
        )


def refuse_made_anew(settings: Settings) -> None:
    """Raise Unavailable for a topic that is not the one that the stores were written by."""
    for topic in made_anew(settings):
        raise Unavailable(
            f"{topic} is not the topic that the database knows: it was deleted and made anew. Stop"
            f" every service, and run `orderstream topics adopt {topic}`"
        )


def load_demo_catalogue(settings: Settings) -> bool:
    """Stock the shelves of an installation that never had any; False if there was stock."""
    database = Database(settings.dsn(), SCHEMAS["inventory"], pool_max=2)
    try:
        stock = PostgresStock(database)
        if stock.levels("", 1):
            return False
        stock.set_on_hand(DEMO_CATALOGUE)
        return True
    finally:
        database.close()


def hints_of(settings: Settings) -> Hints | None:
    """Return the Redis that spares work, where there is one."""
    return None if settings.redis_url is None else Hints(settings.redis_url.get_secret_value())


def hint_checks(hints: Hints | None) -> dict[str, Check]:
    """Return the check of it."""
    return {} if hints is None else {"redis": hints.check}


def dead_letters(settings: Settings) -> DeadLetters:
    """Return the dead letters of the cluster."""
    return DeadLetters(settings.kafka(), settings.topics, settings.kafka_group_id, utc_now)


def spare_garbage() -> None:
    """Search for garbage seldom, and never in what is here for good: call it before work begins.

    Nearly all that a batch makes is freed by its reference counts. Python's default looks through
    it every 700 objects, and at times through all modules: as much work as the batch itself.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
