"""Writes what says what the code says: parts of pages of docs (`PARTS`), and docs/schemas.

And .env.example. `python docs/generate.py` brings them up to date; tests fail until they are.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, cast, get_args, get_origin

import typer
from annotated_types import Ge, Le
from fastapi import APIRouter
from pydantic import SecretStr

from orderstream.analytics.api import analytics_routes
from orderstream.asyncapi import VERSION, documents, written
from orderstream.cli import app as root
from orderstream.cli import commands
from orderstream.dead_letters.api import dead_letter_routes
from orderstream.inventory.api import stock_routes
from orderstream.notification.api import notice_routes
from orderstream.order_view.api import view_routes
from orderstream.order_view.api_feed import feed_routes
from orderstream.orders.api import OrdersApi
from orderstream.orders.api_bulk import bulk_routes
from orderstream.orders.api_life import life_routes
from orderstream.runtime.levels import logger_routes
from orderstream.runtime.settings import Settings
from orderstream.runtime.web import web_app

del commands  # Imported for its effect: it registers every subcommand.

HERE = Path(__file__).parent
EXAMPLE = HERE.parent / ".env.example"
NOTHING = cast("Any", None)  # Routes are described here, never called.
BEGIN = "<!-- From here on written by docs/generate.py -->\n"


def settings_part() -> str:
    """Return the table of settings."""
    lines = ["| setting | default | allowed | what it is |", "| --- | --- | --- | --- |"]
    for name, field in Settings.model_fields.items():
        default = "the user's data folder" if name == "home" else _value(field.default)
        lines.append(
            f"| `{field.validation_alias}` | {default} | {_allowed(field)} | {field.description} |"
        )
    return "\n".join(lines) + "\n"


def _value(value: object) -> str:
    return "" if value is None else f"`{_plain(value)}`"


def _plain(value: object) -> str:
    if value is None:
        return ""
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)


def env_example() -> str:
    """Return .env.example: every setting, commented out, with what it is and its default."""
    parts = [EXAMPLE_HEAD]
    for name, field in Settings.model_fields.items():
        default = "" if name == "home" else _plain(field.default)
        allowed = _allowed(field).replace("`", "")
        meaning = f"{field.description} ({allowed})" if allowed else field.description
        parts.append(f"# {meaning}\n#{field.validation_alias}={default}\n")
    return "\n".join(parts)


def _allowed(field: Any) -> str:
    choices = [
        choice
        for kind in (field.annotation, *get_args(field.annotation))
        if get_origin(kind) is Literal
        for choice in get_args(kind)
    ]
    if choices:
        return ", ".join(f"`{choice}`" for choice in choices)
    least = [limit.ge for limit in field.metadata if isinstance(limit, Ge)]
    most = [limit.le for limit in field.metadata if isinstance(limit, Le)]
    if least and most:
        return f"{least[0]} to {most[0]}"
    return f"from {least[0]} on" if least else ""


def cli_part() -> str:
    """Return a section for every command."""
    found = dict(commands_below(typer.main.get_command(root.app), ("orderstream",)))
    return "\n".join(_section(words, found[words]) for words in sorted(found))


def commands_below(command: Any, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield each command that does something, by its words."""
    children: dict[str, Any] = getattr(command, "commands", {})
    if not children:
        yield words, command
    for name, child in children.items():
        if not child.hidden:
            yield from commands_below(child, (*words, name))


def _section(words: tuple[str, ...], command: Any) -> str:
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option"]
    shown = [o for o in options if not {"--help", "--json"} & set(o.opts)]
    usage = [*words, *(_placeholder(argument) for argument in arguments)]
    if command.context_settings.get("allow_extra_args"):
        usage.append("[ARGUMENTS...]")
    if shown:
        usage.append("[OPTIONS]")
    if any("--json" in o.opts for o in options):
        usage.append("[--json]")
    lines = [f"### `{' '.join(usage)}`\n", f"{_text(command.help)}\n"]
    if arguments or shown:
        lines += ["| | default | |", "| --- | --- | --- |"]
        lines += [f"| `{_placeholder(a)}` | | {_text(a.help)} |" for a in arguments]
        lines += [f"| {_names(o)} | {_default(o)} | {_text(o.help)} |" for o in shown]
        lines.append("")
    return "\n".join(lines)


def _text(said: str | None) -> str:
    return " ".join((said or "").split()).replace("|", "\\|")


def _placeholder(argument: Any) -> str:
    shown = argument.metavar or argument.name.upper()
    return shown if argument.required or shown.startswith("[") else f"[{shown}]"


def _names(option: Any) -> str:
    value = "" if option.is_flag else f" {option.metavar or option.name.upper()}"
    return ", ".join(f"`{name}{value}`" for name in [*option.opts, *option.secondary_opts])


def _default(option: Any) -> str:
    value = option.default
    return "" if value in (None, False, "", []) or callable(value) else f"`{value}`"


EXAMPLE_HEAD = """\
# Every setting and its default; written by docs/generate.py. Copy it to `.env`, and take the # away
# from what you change. The `orderstream` command reads `.env` in its working folder, the compose
# files read the one beside them. There, addresses and worker numbers are set already, and
# deploy/env/SERVICE.env is one service's own.

# For the compose files alone; `./entrypoint.sh --up` makes passwords and API keys that are missing.
# password of PostgreSQL's user orderstream: letters and digits, as it stands in an address
#POSTGRES_PASSWORD=
# password of Elasticsearch's user elastic, who signs in to Kibana (docker-compose-elk.yml)
#ELASTIC_PASSWORD=
# password that Kibana itself signs in to Elasticsearch with (docker-compose-elk.yml)
#KIBANA_PASSWORD=
# port of Kafka UI on this machine
#KAFKA_UI_PORT=8081
# port of Kibana on this machine
#KIBANA_PORT=5601
# name of the image that is built and run
#ORDERSTREAM_IMAGE=orderstream:local
"""


# HTTP --------------------------------------------------------------------------------------


def openapi() -> dict[str, Any]:
    """Return the description of the routes of all services, each path with its server."""
    settings = Settings.load({})
    services: dict[str, tuple[int, list[APIRouter]]] = {
        "order": (
            settings.port_order,
            [
                bulk_routes(NOTHING),
                life_routes(NOTHING),
                feed_routes(NOTHING, NOTHING, NOTHING),
                view_routes(NOTHING),
                dead_letter_routes(NOTHING),
                logger_routes(),
            ],
        ),
        "inventory": (settings.port_inventory, [stock_routes(NOTHING)]),
        "notification": (
            settings.port_notification,
            [notice_routes(NOTHING, {}, NOTHING, NOTHING)],
        ),
        "analytics": (settings.port_analytics, [analytics_routes(NOTHING, NOTHING, NOTHING)]),
    }
    whole: dict[str, Any] = {}
    for service, (port, routers) in services.items():
        app = web_app("orderstream", {})
        for router in routers:
            app.include_router(router)
        if service == "order":
            OrdersApi(app, NOTHING, NOTHING, 1)  # Adds its POST.
        app.version = VERSION  # The contract's, not that of the commit at hand.
        document = app.openapi()
        server = [{"url": f"http://127.0.0.1:{port}", "description": f"the {service} service"}]
        paths = {
            path: {"servers": server} | methods
            for path, methods in document["paths"].items()
            if path not in whole.get("paths", {})  # That every service has stands under the first.
        }
        if not whole:
            whole = document | {"paths": {}}
        whole["paths"] |= paths
        whole["components"]["schemas"] |= document["components"]["schemas"]
    return whole


def operations() -> Iterator[tuple[dict[str, str], str, dict[str, Any]]]:
    """Yield every route: its server, `GET /path`, and what is said of it."""
    for path, item in openapi()["paths"].items():
        for method, operation in item.items():
            if method != "servers":
                yield item["servers"][0], f"{method.upper()} {path}", operation


def openapi_part() -> str:
    """Return a table of the routes of each service."""
    lines: list[str] = []
    last: dict[str, str] = {}
    for server, route, operation in operations():
        if server != last:
            title = server["description"].removeprefix("the ").capitalize()
            lines += [
                f"\n## {title}: {server['url']}\n",
                "| route | | answers |",
                "| --- | --- | --- |",
            ]
            last = server
        answers = ", ".join(sorted(operation["responses"].keys() - {"4XX", "503"}))
        lines.append(f"| `{route}` | {_text(operation.get('summary'))} | {answers} |")
    return "\n".join(lines).lstrip("\n") + "\n"


# Decisions ---------------------------------------------------------------------------------


def decisions_part() -> str:
    """Return a list of all records by number and title."""
    records = sorted((HERE / "decisions").glob("[0-9]*.md"))
    titles = (path.read_text("utf-8").partition("\n")[0].removeprefix("# ") for path in records)
    rows = (
        f"| {path.name[:4]} | [{title}]({path.name}) |"
        for path, title in zip(records, titles, strict=True)
    )
    return "\n".join(["| | |", "| --- | --- |", *rows]) + "\n"


PARTS: dict[str, Callable[[], str]] = {
    "settings.md": settings_part,
    "cli.md": cli_part,
    "openapi.md": openapi_part,
    "decisions/README.md": decisions_part,
}


def current(name: str) -> str:
    """Return the page as it has to be: what people wrote, then what the code says."""
    written, found, _ = (HERE / name).read_text("utf-8").partition(BEGIN)
    assert found, f"docs/{name} has no line {BEGIN!r}"
    return f"{written}{found}\n{PARTS[name]()}"


if __name__ == "__main__":
    for name in PARTS:
        (HERE / name).write_text(current(name), "utf-8")
    EXAMPLE.write_text(env_example(), "utf-8")
    for name, document in documents(Settings.load({})).items():
        (HERE / "schemas" / name).write_text(written(document), "utf-8")
    (HERE / "openapi.json").write_text(written(openapi()), "utf-8")
