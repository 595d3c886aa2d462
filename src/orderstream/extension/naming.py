"""What a consumer may be called, and what is called after it."""

import re

NAME_MAX = 40  # PostgreSQL's role of the schema has 63 characters.
_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


def is_name(text: str) -> bool:
    """Tell whether a consumer may be called so."""
    return len(text) <= NAME_MAX and _NAME.fullmatch(text) is not None


def schema_of(name: str) -> str:
    """Name the schema of a consumer; no two have the same."""
    return f"consumer_{name.replace('-', '_')}"
