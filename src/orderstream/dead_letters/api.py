"""Dead letters over HTTP, for operators."""

from collections.abc import Generator
from contextlib import contextmanager
from itertools import islice
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from orderstream.contract.errors import Malformed
from orderstream.dead_letters.desk import Busy, Change, DeadLetters, Nowhere, Unknown
from orderstream.dead_letters.rules import (
    DeadLetter,
    Place,
    Wanted,
    edited,
    parse_place,
)
from orderstream.dead_letters.shown import shown, shown_whole
from orderstream.runtime.access import By
from orderstream.runtime.clock import to_epoch_ms
from orderstream.runtime.web import Problem, Time, json_response

LISTED_MAX = 1000
NOBODY = "api"  # Who it was where no API keys are set.
TEXT_MAX = 249  # Characters of a topic's name.

Name = Annotated[str | None, Field(max_length=TEXT_MAX)]


class Body(BaseModel):
    """What is said must be understood: a filter that is not would fit everything."""

    model_config = ConfigDict(extra="forbid")


class Filter(Body):
    """Which dead letters: all that fit every part given."""

    topic: Name = None
    reason: Name = None
    order: Name = None
    group: Name = None
    since: Annotated[Time | None, Field(alias="from")] = None
    until: Annotated[Time | None, Field(alias="to")] = None

    def wanted(self) -> Wanted:
        """Return the filter as the rules know it; the topic is looked for apart."""
        return Wanted(
            reason=self.reason,
            order=self.order,
            group=self.group,
            since_ms=None if self.since is None else to_epoch_ms(self.since),
            until_ms=None if self.until is None else to_epoch_ms(self.until),
        )


class Redrive(Body):
    """How one is redriven: where to, and what is changed in its payload (JSON, by path)."""

    to: Name = None
    set: dict[str, Any] = {}
    value: str | None = None
    note: Annotated[str, Field(max_length=1000)] = ""


class Discard(Body):
    """Why one is not tried again."""

    note: Annotated[str, Field(min_length=1, max_length=1000)]


class Many(Filter):
    """Up to a thousand of those that fit, the oldest of each partition first."""

    limit: Annotated[int, Field(ge=1, le=LISTED_MAX)] = LISTED_MAX
    dryRun: bool = False


class DiscardMany(Many, Discard):
    """Which are not tried again, and why."""


def dead_letter_routes(desk: DeadLetters) -> APIRouter:
    """List, show, redrive and discard; who did it is the name of the API key."""
    routes = APIRouter(tags=["dead letters"])

    @routes.get("/api/dead-letters", summary="Dead letters that fit, open ones unless told so")
    def list_dead_letters(  # pyright: ignore[reportUnusedFunction]
        topic: Annotated[str | None, Query(max_length=TEXT_MAX)] = None,
        reason: Annotated[str | None, Query(max_length=TEXT_MAX)] = None,
        order: Annotated[str | None, Query(max_length=TEXT_MAX)] = None,
        group: Annotated[str | None, Query(max_length=TEXT_MAX)] = None,
        since: Annotated[Time | None, Query(alias="from")] = None,
        until: Annotated[Time | None, Query(alias="to")] = None,
        handled: bool = False,
        limit: Annotated[int, Query(ge=1, le=LISTED_MAX)] = 100,
    ) -> Response:
        chosen = Filter.model_validate(
            {"topic": topic, "reason": reason, "order": order, "group": group}
            | {"from": since, "to": until}
        )
        with _as_problems():
            found = list(islice(desk.find(chosen.wanted(), topic, handled=handled), limit + 1))
        listed = [shown(entry) for entry in found[:limit]]
        return json_response({"deadLetters": listed, "more": len(found) > limit})

    @routes.post("/api/dead-letters:redrive", summary="Redrive those that fit, each once")
    def redrive_many(many: Many, by: By) -> Response:  # pyright: ignore[reportUnusedFunction]
        with _as_problems():
            letters, change = _chosen(desk, many), Change(by or NOBODY)
            if many.dryRun:
                would = desk.look(letters, change)
                return json_response({"redriven": 0, "wouldRedrive": would.now, **would.rest()})
            done = desk.handle(letters, change)
        return json_response({"redriven": done.now, **done.rest()})

    @routes.post("/api/dead-letters:discard", summary="Never try those that fit again")
    def discard_many(many: DiscardMany, by: By) -> Response:  # pyright: ignore[reportUnusedFunction]
        with _as_problems():
            letters, change = _chosen(desk, many), Change(by or NOBODY, many.note, discard=True)
            if many.dryRun:
                would = desk.look(letters, change)
                return json_response({"discarded": 0, "wouldDiscard": would.now})
            done = desk.handle(letters, change)
        return json_response({"discarded": done.now, "before": done.before})

    @routes.get("/api/dead-letters/{place}", summary="One: payload, headers, stack trace, history")
    def get_dead_letter(place: str) -> Response:  # pyright: ignore[reportUnusedFunction]
        with _as_problems():
            return json_response(shown_whole(desk.get(_place(place))))

    @routes.post("/api/dead-letters/{place}/redrive", summary="Try it again, as it is or changed")
    def redrive(place: str, how: Redrive, by: By) -> Response:  # pyright: ignore[reportUnusedFunction]
        with _as_problems():
            letter = desk.get(_place(place)).letter
            value = None if how.value is None else how.value.encode()
            if how.set:
                changes = [
                    (path, msgspec.json.encode(new).decode()) for path, new in how.set.items()
                ]
                value = edited(letter.value if value is None else value, changes)
            done = desk.handle([letter], Change(by or NOBODY, how.note, how.to, value))
            if done.nowhere:
                raise Nowhere(f"{place} does not name a topic that is there: say where `to`")
        return json_response({"redriven": done.now, "before": done.before})

    @routes.post("/api/dead-letters/{place}/discard", summary="Never try it again")
    def discard(place: str, why: Discard, by: By) -> Response:  # pyright: ignore[reportUnusedFunction]
        with _as_problems():
            letter = desk.get(_place(place)).letter
            done = desk.handle([letter], Change(by or NOBODY, why.note, discard=True))
        return json_response({"discarded": done.now, "before": done.before})

    return routes


def _chosen(desk: DeadLetters, many: Many) -> list[DeadLetter]:
    found = islice(desk.find(many.wanted(), many.topic), many.limit)
    return [entry.letter for entry in found]


def _place(written: str) -> Place:
    try:
        return parse_place(written)
    except Malformed as error:
        raise Problem(422, "invalid-request", str(error), field="place") from None


@contextmanager
def _as_problems() -> Generator[None]:
    try:
        yield
    except Unknown as error:
        raise Problem(404, "unknown-dead-letter", str(error)) from None
    except Busy as error:
        raise Problem(409, "busy", str(error)) from None
    except Nowhere as error:
        raise Problem(422, "no-destination", str(error), field="to") from None
    except Malformed as error:
        raise Problem(422, "invalid-request", str(error), field="set") from None
