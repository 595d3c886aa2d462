"""Finds consumers: by module and function, or by the entry points of what is installed."""

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from orderstream.contract.errors import ConfigurationError
from orderstream.extension.definition import Definition, definition_of

GROUP = "orderstream.consumers"


def installed() -> Sequence[EntryPoint]:
    """Return the entry points, by name; none of them is imported."""
    return sorted(entry_points(group=GROUP), key=lambda point: point.name)


def find(target: str) -> Definition:
    """Import what `MODULE:FUNCTION` or an entry point names; the working folder counts first.

    Raises ConfigurationError for what is not there or is no consumer; what a module raises itself
    is passed on.
    """
    if ":" not in target:
        return _entry(target)
    module, _, name = target.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found = import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise  # It is there, and lacks another.
        raise ConfigurationError(f"{target}: there is no module {error.name} here") from None
    except (ValueError, TypeError):  # "", ".x"
        raise ConfigurationError(f"{target}: write MODULE:FUNCTION") from None
    if not hasattr(found, name):
        raise ConfigurationError(f"{target}: {module} has no {name or 'function without a name'}")
    return definition_of(getattr(found, name), target)


def _entry(name: str) -> Definition:
    points = [point for point in installed() if point.name == name]
    if not points:
        known = ", ".join(point.name for point in installed()) or "none"
        raise ConfigurationError(
            f"{name}: write MODULE:FUNCTION, or the name of an entry point of {GROUP} ({known})"
        )
    return definition_of(points[0].load(), name)
