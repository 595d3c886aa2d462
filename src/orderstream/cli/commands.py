"""Every subcommand registers itself with the root when its file is imported."""

from orderstream.cli import (
    demo,
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
    "operations",
    "orders",
    "serve",
    "servers",
    "stock",
    "topics",
    "up",
    "verify",
]
