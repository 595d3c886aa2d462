"""Every subcommand registers itself with the root when its file is imported."""

from orderstream.cli import (
    demo,
    load,
    operations,
    orders,
    serve,
    servers,
    stock,
    topics,
    up,
    verify,
)

__all__ = [
    "demo",
    "load",
    "operations",
    "orders",
    "serve",
    "servers",
    "stock",
    "topics",
    "up",
    "verify",
]
