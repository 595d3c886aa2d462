"""Every subcommand registers itself with the root when its file is imported."""

from orderstream.cli import serve

__all__ = ["serve"]
