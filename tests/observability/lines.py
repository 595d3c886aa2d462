"""Log lines as Elasticsearch takes them: by the template that ships, without Elasticsearch."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

TEMPLATE = Path(__file__).parents[2] / "deploy" / "elk" / "templates" / "logs-orderstream.json"
# https://github.com/elastic/ecs-logging: the fields that each line has, in their order.
FIRST = ["@timestamp", "log.level", "message"]
REQUIRED = {*FIRST, "ecs.version", "service.name", "service.version", "process.pid", "log.logger"}
LEVELS = {"debug", "info", "warning", "error", "critical"}
_TEXT = {"keyword", "wildcard", "match_only_text"}


def read(text: str) -> list[dict[str, Any]]:
    """Return the lines of a log; each has to be one object, and ECS."""
    return [parsed(line) for line in text.splitlines()]


def parsed(line: str) -> dict[str, Any]:
    """Return one line, whose fields have to be mapped."""
    try:
        found = json.loads(line)
    except ValueError:
        raise AssertionError(f"not JSON: {line!r}") from None
    assert list(found)[:3] == FIRST, line
    assert found.keys() >= REQUIRED, line
    assert found["log.level"] in LEVELS, line
    assert unmapped(found) == [], line
    return found


def mappings() -> dict[str, Any]:
    return json.loads(TEMPLATE.read_text("utf-8"))["template"]["mappings"]


def unmapped(line: dict[str, Any]) -> list[str]:
    """Return the fields that `dynamic: strict` would refuse, or whose value is of another type."""
    return [fault for name, value in line.items() if (fault := _fault(name, value))]


def _fault(name: str, value: Any) -> str | None:
    found: dict[str, Any] | None = mappings()
    for part in name.split("."):
        found = (found or {}).get("properties", {}).get(part)
    if found is None:
        return f"{name} is not mapped"
    if name == "labels":
        texts = all(isinstance(label, str) for label in value.values())
        return None if texts and not any("." in label for label in value) else f"{name}: {value}"
    values = value if isinstance(value, list) else [value]
    if not values or not all(_suits(found["type"], each) for each in values):
        return f"{name} is no {found['type']}: {value!r}"
    return None


def _suits(kind: str, value: Any) -> bool:
    match kind:
        case "long":
            return isinstance(value, int) and not isinstance(value, bool)
        case "date":
            return isinstance(value, str) and datetime.fromisoformat(value).tzinfo is not None
        case kind if kind in _TEXT:
            return isinstance(value, str)
    return False
