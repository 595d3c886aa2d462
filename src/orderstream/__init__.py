"""Orders as a stream of events on Apache Kafka: never lost, never doubled, never oversold.

For consumers of your own (docs/consumers.md): `consumer`, what it is given (`Events`, `Event`), and
`Unavailable`, to be raised where something that it needs is away. Each is imported when it is used.
`__version__` is that of the package as it was installed: a tag's, or what came after it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orderstream.contract.errors import Unavailable
    from orderstream.extension.definition import consumer
    from orderstream.extension.events import Event, Events

    __version__: str

__all__ = ["Event", "Events", "Unavailable", "__version__", "consumer"]

_WHERE = {
    "Event": "orderstream.extension.events",
    "Events": "orderstream.extension.events",
    "Unavailable": "orderstream.contract.errors",
    "consumer": "orderstream.extension.definition",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return import_module("importlib.metadata").version(__name__)
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_WHERE[name]), name)
