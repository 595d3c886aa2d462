"""The Redis that spares work."""

from orderstream.runtime.hints import Hints
from orderstream.runtime.observe import Check
from orderstream.runtime.settings import Settings


def hints_of(settings: Settings) -> Hints | None:
    """Return the Redis that spares work, where there is one."""
    return None if settings.redis_url is None else Hints(settings.redis_url.get_secret_value())


def hint_checks(hints: Hints | None) -> dict[str, Check]:
    """Return the check of it."""
    return {} if hints is None else {"redis": hints.check}
