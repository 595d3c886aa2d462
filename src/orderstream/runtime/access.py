"""Which role may use which route. What a route does not say is for operators, or a viewer's GET."""

from typing import Annotated, Any

from fastapi import Depends, Request

from orderstream.contract.envelope import TRACEPARENT, read_traceparent
from orderstream.runtime.keys import ROLES, Caller, Role

# For a route's `openapi_extra`: clients may use it for their own orders, which it has to see to.
READ_OWN: dict[str, Any] = {"x-roles": list(ROLES)}
CHANGE_OWN: dict[str, Any] = {"x-roles": ["client", "operator"]}


def roles_of(route: Any) -> tuple[Role, ...]:
    """Return the roles that may use a route."""
    said: dict[str, Any] = getattr(route, "openapi_extra", None) or {}
    if "x-roles" in said:
        return tuple(said["x-roles"])
    reads = set(route.methods or ()) <= {"GET", "HEAD"}
    return ("viewer", "operator") if reads else ("operator",)


def caller_of(request: Request) -> Caller | None:
    """Return whose key the request came with; None when no keys are set: that may do all."""
    return request.scope.get("caller")


async def owner_of(request: Request) -> str | None:
    """Return whose orders alone the request may see; None for all of them."""
    caller = caller_of(request)
    return None if caller is None else caller.owner


async def name_of(request: Request) -> str | None:
    """Return who does it, for the record; None when no keys are set."""
    caller = caller_of(request)
    return None if caller is None else caller.name


async def traceparent_of(request: Request) -> bytes | None:
    """Return the W3C trace context that the request came with, if it is one, to be handed on."""
    said = request.headers.get(TRACEPARENT)
    return None if said is None else read_traceparent(said.encode("latin-1"))


Owner = Annotated[str | None, Depends(owner_of)]
By = Annotated[str | None, Depends(name_of)]
Traceparent = Annotated[bytes | None, Depends(traceparent_of)]
