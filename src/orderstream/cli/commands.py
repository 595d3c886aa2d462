"""Every subcommand registers itself with the root when its file is imported."""

from orderstream.cli import operations, orders, serve, stock, topics, up

__all__ = ["operations", "orders", "serve", "stock", "topics"]
