"""`notify`: what customers were told, and what to do where they were not."""

from enum import StrEnum
from typing import Annotated, Any

import typer

from orderstream.cli import settings
from orderstream.cli.app import app
from orderstream.cli.output import (
    AsJson,
    Refused,
    api_of,
    hint,
    in_path,
    print_facts,
    print_json,
    print_json_lines,
    print_table,
    printable,
)

notify = typer.Typer(help="What customers were told, and were not.", no_args_is_help=True)
app.add_typer(notify, name="notify")


class Status(StrEnum):
    """Where a message to one channel stands."""

    PENDING = "PENDING"
    SENDING = "SENDING"
    SENT = "SENT"
    FAILED = "FAILED"
    SKIPPED = "SKIPPED"


class Event(StrEnum):
    """What customers are told of."""

    RECEIVED = "received"
    CONFIRMED = "confirmed"
    REJECTED = "rejected"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    FULFILLED = "fulfilled"
    FAILED = "failed"


ChannelOption = Annotated[
    str | None, typer.Option("--channel", metavar="NAME", help="Only this channel's.")
]
ChannelArgument = Annotated[str, typer.Argument(metavar="CHANNEL", help="Its name.")]
UserArgument = Annotated[str, typer.Argument(metavar="USER", help="The order's userId.")]
LocaleOption = Annotated[str | None, typer.Option(metavar="LANGUAGE", help="en, tr, pt-BR, ...")]


@notify.command("list")
def list_notices(
    order: Annotated[str | None, typer.Option(metavar="ID", help="Only of this order.")] = None,
    status: Annotated[Status | None, typer.Option(help="Only those that stand so.")] = None,
    channel: ChannelOption = None,
    limit: Annotated[int, typer.Option(min=1, max=500, help="At most so many.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List notices, newest first."""
    with api_of("notification", settings.load()) as api:
        found = api.get(
            "/api/notifications", orderId=order, status=status, channel=channel, limit=limit
        )["notifications"]
    if as_json:
        print_json_lines(found)
        return
    headings = ("id", "created", "status", "tries", "text", "why")
    print_table(
        headings,
        (
            (n["id"], n["createdAt"], n["status"], n.get("tries"), n["text"], n.get("why"))
            for n in found
        ),
    )


@notify.command()
def retry(
    notices: Annotated[
        list[str] | None, typer.Argument(metavar="[ID]...", help="As `notify list` shows them.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All that were given up.")] = False,
    channel: ChannelOption = None,
    as_json: AsJson = False,
) -> None:
    """Send again what was given up or skipped, now and as often as the first time."""
    if bool(notices) == everything:
        raise typer.BadParameter("name notices, or say --all")
    if notices and channel:
        raise typer.BadParameter("--channel goes with --all")
    retried, refused = 0, 0
    with api_of("notification", settings.load()) as api:
        if everything:
            options = {} if channel is None else {"params": {"channel": channel}}
            more = True
            while more:  # So many thousand at a time.
                answer = api.send("POST", "/api/notifications:retry", **options)
                more = api.read(answer)["retried"]
                retried += more
        for notice in notices or ():
            try:
                api.send("POST", f"/api/notifications/{in_path(notice)}/retry")
                retried += 1
            except Refused as error:
                refused += 1
                hint(f"{printable(notice)}: {error}")
    if as_json:
        print_json({"retried": retried, "refused": refused})
    else:
        print(f"{retried} will be sent again")
    if refused:
        raise typer.Exit(1)


@notify.command()
def channels(as_json: AsJson = False) -> None:
    """List the channels, and what was not sent through each."""
    with api_of("notification", settings.load()) as api:
        found = api.get("/api/notifications/channels")["channels"]
    if as_json:
        print_json_lines(found)
        return
    waiting = ("PENDING", "SENDING", "FAILED")
    print_table(
        ("channel", *(name.lower() for name in waiting), "state"),
        ((c["name"], *(c["unsent"].get(name, 0) for name in waiting), _state(c)) for c in found),
    )


def _state(channel: dict[str, Any]) -> str:
    if channel["silenced"]:
        return f"silenced: {channel['silenced']}"
    return "in use" if channel["inUse"] else "not in the settings"


@notify.command("test")
def try_channel(
    channel: ChannelArgument,
    email: Annotated[str | None, typer.Option(help="The e-mail address that it goes to.")] = None,
    phone: Annotated[str | None, typer.Option(help="The phone number that it goes to.")] = None,
    locale: LocaleOption = None,
    as_json: AsJson = False,
) -> None:
    """Send a test message now and say what came of it."""
    to = {"email": email, "phone": phone, "locale": locale}
    body = {name: value for name, value in to.items() if value is not None}
    # A channel may take its time: to look a name up, to connect, and for each answer.
    with api_of("notification", settings.load(), timeout_s=90.0) as api:
        path = f"/api/notifications/channels/{in_path(channel)}/test"
        outcome = api.read(api.send("POST", path, json=body))
    if as_json:
        print_json(outcome)
    else:
        print_facts((("channel", channel), ("result", outcome["result"])))
        print_facts((("why", outcome.get("why")),))
    if outcome["result"] != "SENT":
        raise typer.Exit(1)


@notify.command()
def enable(channel: ChannelArgument, as_json: AsJson = False) -> None:
    """Use a channel again whose endpoint had said that it is gone."""
    with api_of("notification", settings.load()) as api:
        path = f"/api/notifications/channels/{in_path(channel)}/enable"
        outcome = api.read(api.send("POST", path))
    if as_json:
        print_json(outcome)
    else:
        print(f"{printable(channel)} is used again; `notify retry --all` sends what it missed")


@notify.command()
def preview(
    event: Annotated[Event, typer.Argument(help="What is told of.")],
    locale: LocaleOption = None,
    html: Annotated[bool, typer.Option("--html", help="The HTML of the mail.")] = False,
    as_json: AsJson = False,
) -> None:
    """Print what a customer would read."""
    current = settings.load()
    with api_of("notification", current) as api:
        language = locale or current.notify_locale
        shown = api.get("/api/notifications/preview", event=event, locale=language)
    if as_json:
        print_json(shown)
    elif html:
        print(shown["html"])
    else:
        print(f"{shown['subject']}\n\n{shown['text']}")


@notify.command("opt-out")
def opt_out(user: UserArgument, as_json: AsJson = False) -> None:
    """Tell a customer nothing more by mail, SMS or push."""
    _say(user, "PUT", as_json)


@notify.command("opt-in")
def opt_in(user: UserArgument, as_json: AsJson = False) -> None:
    """Tell a customer again who had opted out."""
    _say(user, "DELETE", as_json)


def _say(user: str, method: str, as_json: bool) -> None:
    with api_of("notification", settings.load()) as api:
        answer = api.send(method, f"/api/notifications/opt-outs/{in_path(user)}")
        outcome = api.read(answer)
    if as_json:
        print_json(outcome)
    else:
        print(f"{printable(user)} {'is told no more' if outcome['optedOut'] else 'is told again'}")


@notify.command()
def secret(as_json: AsJson = False) -> None:
    """Make a secret that webhooks are signed with; nothing is kept or sent anywhere."""
    import base64
    import secrets

    made = "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
    if as_json:
        print_json({"secret": made})
    else:
        print(made)
