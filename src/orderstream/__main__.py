"""`python -m orderstream` is the `orderstream` command."""

from orderstream.cli import main

main()
