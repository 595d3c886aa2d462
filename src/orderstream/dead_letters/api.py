"""Dead letters over HTTP, for operators."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from orderstream.contract.envelope import rfc3339
from orderstream.contract.errors import Malformed
from orderstream.dead_letters.desk import Busy, Change, DeadLetters, Nowhere, Unknown
from orderstream.dead_letters.ledger import Spot
from orderstream.dead_letters.rules import (
    DeadLetter,
    Place,
    Wanted,
    edited,
    parse_place,
)
from orderstream.dead_letters.shown import in_short, shown_whole
from orderstream.runtime.access import By
from orderstream.runtime.clock import from_epoch_ms, to_epoch_ms
from orderstream.runtime.web import Problem, Time, json_response

LISTED_MAX = 1000
NOBODY = "api"  # Who it was where no API keys are set.
CAUSE_MAX = 4000
TIME_DIGITS_MAX = 15
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
    cause: Annotated[str | None, Field(max_length=CAUSE_MAX)] = None

    def wanted(self) -> Wanted:
        """Return the filter as the rules know it; the topic is looked for apart."""
        return Wanted(
            reason=self.reason,
            order=self.order,
            group=self.group,
            since_ms=None if self.since is None else to_epoch_ms(self.since),
            until_ms=None if self.until is None else to_epoch_ms(self.until),
            cause=self.cause,
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


Chosen = tuple[Wanted, str | None, bool]


def _chosen_by(
    topic: Annotated[str | None, Query(max_length=TEXT_MAX)] = None,
    reason: Annotated[str | None, Query(max_length=TEXT_MAX)] = None,
    order: Annotated[str | None, Query(max_length=TEXT_MAX)] = None,
    group: Annotated[str | None, Query(max_length=TEXT_MAX)] = None,
    since: Annotated[Time | None, Query(alias="from")] = None,
    until: Annotated[Time | None, Query(alias="to")] = None,
    cause: Annotated[str | None, Query(max_length=CAUSE_MAX)] = None,
    handled: bool = False,
) -> Chosen:
    """Return which are meant, of which topic, and whether those that were handled, too."""
    chosen = Filter.model_validate(
        {"reason": reason, "order": order, "group": group, "cause": cause}
        | {"from": since, "to": until}
    )
    return chosen.wanted(), topic, handled


def dead_letter_routes(desk: DeadLetters) -> APIRouter:
    """List, show, redrive and discard; who did it is the name of the API key."""
    routes = APIRouter(tags=["dead letters"])

    @routes.get(
        "/api/dead-letters",
        summary="Dead letters that fit, newest first, page by page; open ones unless told so",
    )
    def list_dead_letters(  # pyright: ignore[reportUnusedFunction]
        chosen: Annotated[Chosen, Depends(_chosen_by)],
        limit: Annotated[int, Query(ge=1, le=LISTED_MAX)] = 100,
        cursor: Annotated[str | None, Query(max_length=400)] = None,
    ) -> Response:
        before = None if cursor is None else _spot(cursor)
        with _as_problems():
            wanted, topic, handled = chosen
            found = desk.ledger.newest(wanted, topic, limit + 1, handled=handled, before=before)
        listed = [in_short(one.spot.place, one.letter, one.handled) for one in found[:limit]]
        more = len(found) > limit
        following = f"{found[limit - 1].spot.at_ms}:{found[limit - 1].spot.place}" if more else None
        return json_response({"deadLetters": listed, "more": more, "nextCursor": following})

    @routes.get(
        "/api/dead-letters:causes",
        summary="Of what causes those that fit are, and how many; open ones unless told so",
    )
    def list_causes(chosen: Annotated[Chosen, Depends(_chosen_by)]) -> Response:  # pyright: ignore[reportUnusedFunction]
        wanted, topic, handled = chosen
        with _as_problems():
            causes = desk.ledger.causes(wanted, topic, handled=handled)
        listed = [
            {
                "cause": one.cause,
                "count": one.number,
                "first": rfc3339(from_epoch_ms(one.first_ms)),
                "last": rfc3339(from_epoch_ms(one.last_ms)),
            }
            for one in causes
        ]
        return json_response({"count": sum(one.number for one in causes), "causes": listed})

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
    places = desk.ledger.oldest(many.wanted(), many.topic, many.limit)
    return desk.read(places)


def _spot(cursor: str) -> Spot:
    at_ms, _, place = cursor.partition(":")
    try:
        if not at_ms.isdecimal() or len(at_ms) > TIME_DIGITS_MAX:
            raise Malformed("has no time")
        return Spot(int(at_ms), parse_place(place))
    except Malformed:
        said = "The cursor is not one that this service gave; start again without it."
        raise Problem(422, "invalid-request", said, field="cursor") from None


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
