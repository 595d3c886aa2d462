"""Writes each day's confirmed orders to a CSV file of its own, one line for each item.

A file is outside PostgreSQL: a crash may come between the two. So the rows come first, in the
transaction, and the file is always written whole from them, and put in its place in one step:
written twice, it is the same. A day's file is written anew with each batch, so this is for some
ten thousand orders a day, not for millions.

    DAILY_CSV=/srv/csv orderstream run daily_csv:export
"""

import csv
import os
from datetime import UTC, date
from pathlib import Path

from psycopg import Connection

from orderstream import Events, consumer
from orderstream.contract.values import quantities_by_sku

TABLES = """
    CREATE TABLE IF NOT EXISTS item (
        day date, order_id text, at timestamptz, user_id text, sku text, qty bigint,
        PRIMARY KEY (day, order_id, sku)
    )
"""
# An event may be put on its topic again, by a redrive: an order counts once.
ADD = "INSERT INTO item VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING"
DAY = "SELECT at, order_id, user_id, sku, qty FROM item WHERE day = %s ORDER BY at, order_id, sku"
ONE_AT_A_TIME = "SELECT pg_advisory_xact_lock(hashtext('daily_csv'))"  # Workers share the files.


@consumer("daily-csv", topics=["inventory.reserved"], tables=TABLES, rebuild=True)
def export(batch: Events, tx: Connection) -> None:
    """Add the batch's orders to their days, and write those days' files."""
    tx.execute(ONE_AT_A_TIME)
    days: set[date] = set()
    for event in batch:
        order = event.data
        at = order.decided_at.astimezone(UTC)
        days.add(at.date())
        for sku, qty in quantities_by_sku(order.items).items():
            tx.execute(ADD, (at.date(), order.key, at, str(order.user_id), sku, qty))
    for day in days:
        write(day, tx)


def write(day: date, tx: Connection) -> None:
    """Write a day's file from its rows; whoever reads it sees the one before or all of this."""
    folder = Path(os.environ.get("DAILY_CSV", "daily-csv"))
    folder.mkdir(parents=True, exist_ok=True)
    new = folder / f".{day}.csv"
    with new.open("w", newline="", encoding="utf-8") as file:
        lines = csv.writer(file)
        lines.writerow(("at", "order", "user", "sku", "qty"))
        for at, *cells in tx.execute(DAY, (day,)):
            lines.writerow((at.astimezone(UTC).isoformat(), *map(harmless, cells)))
        file.flush()
        os.fsync(file.fileno())
    new.replace(folder / f"{day}.csv")


def harmless(cell: object) -> object:
    """Keep a spreadsheet from taking a client's text for a formula."""
    return f"'{cell}" if isinstance(cell, str) and cell[:1] in ("=", "+", "-", "@") else cell
