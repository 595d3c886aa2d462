"""The goods of the demo."""

from orderstream.flow import SCHEMAS
from orderstream.inventory.store_postgres import PostgresStock
from orderstream.runtime.database import Database
from orderstream.runtime.settings import Settings

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
