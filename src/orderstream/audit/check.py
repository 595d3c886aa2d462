"""What a check is."""

from dataclasses import dataclass
from typing import LiteralString


@dataclass(frozen=True)
class Check:
    """One promise: its sentence says what holds when the statement finds nothing."""

    name: str
    sentence: str
    sql: LiteralString
    whole_log: bool = True  # Cannot be decided once the log's beginning was deleted.
