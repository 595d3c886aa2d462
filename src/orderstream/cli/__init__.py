"""The `orderstream` command."""

from orderstream.cli.app import main

__all__ = ["main"]
