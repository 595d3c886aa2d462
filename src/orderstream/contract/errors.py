"""Every exception that orderstream raises on purpose.

OrderstreamError
├── Malformed             the record or request cannot be read: park it, never retry in place
├── Unavailable           a dependency is away or too slow: pause, and go on when it is back
│   └── OutcomeUnknown    it may have happened: repeat only what is safe to repeat
├── TransactionAborted    nothing of this batch was published: rewind and take it again
│   └── PartitionsGone    a rebalance took partitions away: the same, and no fault
├── Fenced                another incarnation has taken this worker's place: stop the process
└── ConfigurationError    settings or machine are wrong: exit 2 and say all that is wrong

A business "no" (out of stock, illegal change of state) is an event or a return value, never one
of these. Adapters translate what drivers raise; a test fails on a driver error nobody maps.
"""


class OrderstreamError(Exception):
    """The root: catching it catches what we raise on purpose and nothing else."""


class Malformed(OrderstreamError):
    """The record or request cannot be read.

    `field` is the path of the part at fault (`items[0].qty`), or empty when the whole is.
    """

    def __init__(self, message: str, field: str = "") -> None:
        super().__init__(message)
        self.field = field


class Unavailable(OrderstreamError):
    """A dependency (Kafka, PostgreSQL) is away or too slow; nothing was done."""


class OutcomeUnknown(Unavailable):
    """The request may or may not have been carried out; the caller must be able to repeat it."""


class TransactionAborted(OrderstreamError):
    """A Kafka transaction was rolled back: none of its records or offsets will be seen."""


class PartitionsGone(TransactionAborted):
    """A rebalance took partitions away: what was read of them is another worker's now."""


class Fenced(OrderstreamError):
    """A newer incarnation of this worker has taken over; this one must write nothing more."""


class ConfigurationError(OrderstreamError):
    """Settings or the machine are wrong; `faults` lists everything found, one sentence each."""

    def __init__(self, *faults: str) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults
