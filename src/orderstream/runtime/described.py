"""What every route says of itself in the OpenAPI document: its answers, refusals above all."""

from typing import Any

from fastapi import FastAPI

PROBLEM_JSON = "application/problem+json"

_PROBLEM: dict[str, Any] = {
    "type": "object",
    "description": "A problem document (RFC 9457); more members say more, such as `field`.",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string", "description": "names the problem, for programs"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "a sentence that a person can act on"},
        "field": {"type": "string", "description": "where in the request"},
    },
}


def problem_answer(description: str) -> dict[str, Any]:
    """Describe an answer that is a problem document."""
    schema = {"$ref": "#/components/schemas/Problem"}
    return {"description": description, "content": {PROBLEM_JSON: {"schema": schema}}}


def answer_of(media_type: str, description: str) -> dict[str, Any]:
    """Describe an answer that is text of some kind."""
    return {"description": description, "content": {media_type: {"schema": {"type": "string"}}}}


# Of every route; a route may say more of its own.
REFUSALS: dict[int | str, dict[str, Any]] = {
    "4XX": problem_answer("The request cannot be met as it is"),
    503: problem_answer("What the service depends on is away: try again"),
}


def describe_problems(app: FastAPI) -> None:
    """Add the schema that `problem_answer` refers to."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        document = generate()
        document.setdefault("components", {}).setdefault("schemas", {})["Problem"] = _PROBLEM
        return document

    app.openapi = openapi
