"""How much each logger of this process says: looked at and changed while it runs, never kept."""

import logging
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Response
from pydantic import BaseModel, ConfigDict

from orderstream.runtime.web import Problem, json_response

ROOT = "root"
CHANGED_MAX = 100  # Loggers are never forgotten, so not everybody's names become some.

Level = Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]
OfLogger = Annotated[str, Path(pattern=r"^[A-Za-z0-9_.-]{1,100}$", examples=["orderstream.kafka"])]


class NewLevel(BaseModel):
    """What it says from now on; null: as the one above it."""

    model_config = ConfigDict(extra="forbid")

    level: Level | None


def logger_routes() -> APIRouter:
    """List the loggers of this process and change their levels."""
    routes = APIRouter(tags=["health"])

    @routes.get("/api/loggers", summary="Loggers of this process and their levels")
    async def list_loggers() -> Response:  # pyright: ignore[reportUnusedFunction]
        return json_response({"loggers": [shown(name) for name in names()]})

    @routes.put("/api/loggers/{name}", summary="Have a logger say more, or less, until the end")
    async def put_level(name: OfLogger, new: NewLevel) -> Response:  # pyright: ignore[reportUnusedFunction]
        known = names()
        if name not in known and len(known) >= CHANGED_MAX:
            said = f"There is no logger {name}, and {len(known)} are too many for another."
            raise Problem(409, "too-many-loggers", said)
        if name == ROOT and new.level is None:
            raise Problem(422, "invalid-request", "Nothing is above the root.", field="level")
        logging.getLogger(None if name == ROOT else name).setLevel(new.level or logging.NOTSET)
        return json_response(shown(name))

    return routes


def names() -> list[str]:
    """Return the loggers that there are: the root, ours, and those with a level of their own."""
    known = logging.root.manager.loggerDict.items()
    own = [n for n, found in known if isinstance(found, logging.Logger) and _is_shown(n, found)]
    return [ROOT, *sorted(own)]


def _is_shown(name: str, logger: logging.Logger) -> bool:
    return bool(logger.level) or name.partition(".")[0] == "orderstream"


def shown(name: str) -> dict[str, Any]:
    """Return a logger as the API shows it; its level is null where it is that of the one above."""
    logger = logging.getLogger(None if name == ROOT else name)
    return {
        "name": name,
        "level": logging.getLevelName(logger.level) if logger.level else None,
        "effective": logging.getLevelName(logger.getEffectiveLevel()),
    }
