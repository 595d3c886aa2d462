"""Notices over HTTP: what was told, what was not, and what an operator does about it."""

from collections.abc import Mapping
from datetime import UTC
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from msgspec import structs
from pydantic import BaseModel, ConfigDict, Field

from orderstream.contract.envelope import rfc3339
from orderstream.contract.values import EMAIL, LOCALE, PHONE, Contact
from orderstream.notification.channels import Channel
from orderstream.notification.rules import Kind, NotSent, Sent, State
from orderstream.notification.store import Intent, NoticeStore
from orderstream.notification.templates import BadTemplate, Templates, sample
from orderstream.runtime.channels import LOG
from orderstream.runtime.clock import Clock
from orderstream.runtime.web import Problem, json_response

RETRIED_MAX = 10_000
NAME_MAX = 64

ChannelName = Annotated[str | None, Query(max_length=NAME_MAX, description="Only this channel's.")]
LocaleName = Annotated[str, Query(pattern=LOCALE, max_length=35)]


class Address(BaseModel):
    """Whom a test goes to; what is not given is as for an order that gives nothing."""

    model_config = ConfigDict(extra="forbid")

    email: Annotated[str | None, Field(pattern=EMAIL)] = None
    phone: Annotated[str | None, Field(pattern=PHONE)] = None
    locale: Annotated[str | None, Field(pattern=LOCALE)] = None


def notice_routes(
    store: NoticeStore, channels: Mapping[str, Channel], templates: Templates, clock: Clock
) -> APIRouter:
    """What was sent, what was not; `channels` are those of the settings, but for the log."""
    routes = APIRouter(tags=["notifications"])

    @routes.get("/api/notifications", summary="Notices, newest first")
    def list_notices(  # pyright: ignore[reportUnusedFunction]
        orderId: Annotated[str | None, Query(max_length=128)] = None,
        status: State | None = None,
        channel: ChannelName = None,
        limit: Annotated[int, Query(ge=1, le=500)] = 50,
    ) -> Response:
        return json_response({"notifications": store.find(orderId, status, channel, limit)})

    @routes.post(
        "/api/notifications:retry", summary="Send again what was given up, the oldest first"
    )
    def retry_all(  # pyright: ignore[reportUnusedFunction]
        channel: ChannelName = None,
        limit: Annotated[int, Query(ge=1, le=RETRIED_MAX)] = RETRIED_MAX,
    ) -> Response:
        return json_response({"retried": store.retry_all(channel, limit)})

    @routes.get("/api/notifications/channels", summary="The channels, and what waits for each")
    def list_channels() -> Response:  # pyright: ignore[reportUnusedFunction]
        counts: dict[str, dict[str, int]] = {}
        for row in store.open():
            counts.setdefault(row["channel"], {})[row["status"]] = row["count"]
        silenced = store.silenced()
        names = dict.fromkeys([*channels, *counts, *silenced])
        return json_response(
            {
                "channels": [
                    {
                        "name": name,
                        "inUse": name in channels,
                        "personal": name in channels and channels[name].personal,
                        "silenced": silenced.get(name),
                        "unsent": counts.get(name, {}),
                    }
                    for name in names
                ]
            }
        )

    @routes.post("/api/notifications/channels/{name}/enable", summary="Use a silenced one again")
    def enable(name: str) -> Response:  # pyright: ignore[reportUnusedFunction]
        if not store.unsilence(name):
            raise Problem(409, "not-silenced", f"The channel {name} is not silenced.")
        return json_response({"name": name, "silenced": None})

    @routes.post("/api/notifications/channels/{name}/test", summary="Send a test message now")
    def test(name: str, to: Address) -> Response:  # pyright: ignore[reportUnusedFunction]
        channel = channels.get(name)
        if channel is None:
            known = ", ".join(channels) or "none but the log"
            raise Problem(404, "unknown-channel", f"There is no channel {name}; there are: {known}")
        contact = Contact(to.email, to.phone, to.locale)
        at = clock()
        said = structs.replace(sample(Kind.CONFIRMED), notify=contact, at=at)
        mark = rfc3339(at.astimezone(UTC))
        try:
            result = channel.send(Intent(f"test:{mark}", name, None, "A test.", said, 1, 0, at))
        finally:
            channel.let_go()
        if isinstance(result, Sent):
            return json_response({"name": name, "result": "SENT"})
        unknown = isinstance(result, NotSent) and result.unknown
        return json_response(
            {"name": name, "result": "UNKNOWN" if unknown else "NOT_SENT", "why": result.why}
        )

    @routes.get("/api/notifications/preview", summary="What a customer would read")
    def preview(event: Kind = Kind.CONFIRMED, locale: LocaleName = "en") -> Response:  # pyright: ignore[reportUnusedFunction]
        try:
            shown: Any = templates.render(sample(event), locale)
        except BadTemplate as error:
            raise Problem(500, "bad-template", str(error)) from None
        return json_response(shown)

    @routes.put("/api/notifications/opt-outs/{userId:path}", summary="Tell a customer no more")
    def opt_out(userId: str) -> Response:  # pyright: ignore[reportUnusedFunction]
        store.opt_out(_user(userId), clock())
        return json_response({"userId": userId, "optedOut": True})

    @routes.get("/api/notifications/opt-outs/{userId:path}", summary="Whether a customer opted out")
    def opted_out(userId: str) -> Response:  # pyright: ignore[reportUnusedFunction]
        out = _user(userId) in store.opted_out([userId])
        return json_response({"userId": userId, "optedOut": out})

    @routes.delete("/api/notifications/opt-outs/{userId:path}", summary="Tell a customer again")
    def opt_in(userId: str) -> Response:  # pyright: ignore[reportUnusedFunction]
        store.opt_in(_user(userId))
        return json_response({"userId": userId, "optedOut": False})

    @routes.post("/api/notifications/{notice:path}/retry", summary="Send one again")
    def retry(notice: str) -> Response:  # pyright: ignore[reportUnusedFunction]
        event_id, _, channel = notice.rpartition(":")
        if channel not in channels and channel != LOG:
            said = f"The channel {channel} is not in the settings: nothing would send it."
            raise Problem(409, "not-in-use", said)
        before = store.retry(event_id, channel)
        if before is None:
            raise Problem(404, "unknown-notification", f"There is no notification {notice}.")
        if before not in (State.FAILED, State.SKIPPED):
            said = f"It is {before}: what is sent, or is to be, is not sent once more."
            raise Problem(409, "not-given-up", said, currentStatus=before)
        return json_response({"id": notice, "status": State.PENDING})

    return routes


def _user(user_id: str) -> str:
    if not user_id or len(user_id) > 128:
        raise Problem(422, "invalid-request", "A user id has 1 to 128 characters.", field="userId")
    return user_id
