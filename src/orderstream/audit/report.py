"""What an audit found."""

from msgspec import Struct


class Violation(Struct, frozen=True, rename="camel"):
    """One broken promise, and the record that shows it, where there is one.

    `kind` is the name of the check (checks.py). A missing record has no place in the log.
    """

    kind: str
    order_id: str | None
    topic: str | None
    partition: int | None
    offset: int | None
    detail: str


class CheckResult(Struct, frozen=True, rename="camel"):
    """One check: how many violations it found, or why it could not be decided."""

    name: str
    sentence: str
    found: int
    seconds: float
    undecided: str | None = None


class Behind(Struct, frozen=True, rename="camel"):
    """A group that has not read all of a partition, and how many offsets it is short of the end."""

    group: str
    topic: str
    partition: int
    next: int
    offsets: int


class Report(Struct, frozen=True, rename="camel"):
    """The whole audit. `violations` is cut off at so many per kind; `counts` has all of them.

    `outcomes` counts orders by what the log says of them; PENDING ones are still under way.
    `behind` is what the services had not read when the waiting time was over.
    """

    orders: int
    records: int
    outcomes: dict[str, int]
    violations: list[Violation]
    counts: dict[str, int]
    seconds: float
    checks: list[CheckResult]
    behind: list[Behind]

    @property
    def violated(self) -> bool:
        """Whether a promise was found broken."""
        return any(self.counts.values())

    @property
    def proven(self) -> bool:
        """Whether every promise holds: none broken, none undecided, nothing still under way."""
        undecided = any(check.undecided for check in self.checks)
        return not (self.violated or undecided or self.behind)
