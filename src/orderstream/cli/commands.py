"""Every subcommand registers itself with the root when its file is imported."""

from orderstream.cli import (
    demo,
    dlt,
    dlt_redrive,
    doctor,
    keys,
    load,
    operations,
    orders,
    records,
    replay,
    serve,
    servers,
    stock,
    topics,
    up,
    verify,
)

__all__ = [
    "demo",
    "dlt",
    "dlt_redrive",
    "doctor",
    "keys",
    "load",
    "operations",
    "orders",
    "records",
    "replay",
    "serve",
    "servers",
    "stock",
    "topics",
    "up",
    "verify",
]
