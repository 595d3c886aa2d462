"""The pages in docs say what the code does: every command, setting, event, route and problem."""

import re
import runpy
import shlex
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import msgspec
import pytest
import typer
from dotenv import dotenv_values

from orderstream.asyncapi import written
from orderstream.cli import app as root
from orderstream.cli import commands
from orderstream.cli.settings import presets
from orderstream.contract import events
from orderstream.contract.events import Event
from orderstream.contract.topics import Topics
from orderstream.contract.values import Line
from orderstream.orders.api import PATHS
from orderstream.runtime.settings import Settings
from orderstream.runtime.web import TITLES

del commands  # Imported for its effect: it registers every subcommand.

TOP = Path(__file__).parents[1]
DOCS = TOP / "docs"
PAGES = [*sorted(TOP.glob("README*.md")), *sorted(DOCS.glob("*.md"))]
GENERATE = runpy.run_path(str(DOCS / "generate.py"))


def page(name: str) -> str:
    return (DOCS / name).read_text("utf-8")


def sections(text: str) -> dict[str, str]:
    """Return what is below each heading, by the heading without its quotes."""
    parts = re.split(r"^#{2,3} (.*)\n", text, flags=re.MULTILINE)
    return {
        heading.strip("`"): body for heading, body in zip(parts[1::2], parts[2::2], strict=True)
    }


def code_blocks(text: str, kind: str) -> list[str]:
    """Return what is between fences of this kind; of none, for an empty one."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [block for of_kind, block in found if of_kind == kind]


def calls(text: str) -> list[str]:
    """Return the calls of the command on a page: behind a prompt or a pipe, or in a plain block."""
    typed = re.findall(r"^\$ (?:.*\| )?(orderstream .*)$", text, re.MULTILINE)
    plain = "".join(code_blocks(text, ""))
    return typed + re.findall(r"^(orderstream .*)$", plain, re.MULTILINE)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
class TestPage:
    def test_links_lead_somewhere(self, path: Path) -> None:
        text = path.read_text("utf-8")
        for link in re.findall(r"\]\(([^)#]+)", text):
            if not link.startswith("https://"):
                assert (path.parent / link).exists(), link

    def test_names_only_commands_and_options_that_there_are(self, path: Path) -> None:
        for line in calls(path.read_text("utf-8")):
            check_call(shlex.split(line, comments=True))


def check_call(words: list[str]) -> None:
    """Fail unless this is a command with options that it has."""
    command: Any = typer.main.get_command(root.app)
    options = {"--help", "--version"}
    given = iter(words[1:])
    for word in given:
        children = getattr(command, "commands", {})
        if children:
            if word == "--preset":
                assert next(given) in [*presets(), "NAME"]
            elif not word.startswith("-"):
                assert word in children, f"{' '.join(words)}: there is no {word}"
                command = children[word]
                options |= {name for p in command.params for name in p.opts}
        elif word.startswith("--"):
            assert word.split("=")[0] in options, f"{' '.join(words)}: there is no {word}"


class TestGeneratedParts:
    @pytest.mark.parametrize("name", GENERATE["PARTS"])
    def test_are_up_to_date(self, name: str) -> None:
        assert page(name) == GENERATE["current"](name), "run `python docs/generate.py`"

    def test_and_the_openapi_document_is(self) -> None:
        kept = page("openapi.json")
        assert kept == written(GENERATE["openapi"]()), "run `python docs/generate.py`"

    def test_the_example_of_an_env_has_every_setting_with_its_default(self) -> None:
        example = (TOP / ".env.example").read_text("utf-8")
        made: Callable[[], str] = runpy.run_path(str(DOCS / "generate.py"))["env_example"]
        assert example == made(), "run `python docs/generate.py`"
        assert Settings.load({}) == Settings.load(
            {k: v for k, v in dotenv_values(stream=StringIO(example)).items() if v}
        )
        taken = re.sub(r"^#(?=[A-Z_]+=)", "", example, flags=re.MULTILINE)
        values = dotenv_values(stream=StringIO(taken))
        names = [str(field.validation_alias) for field in Settings.model_fields.values()]
        assert [name for name in values if name in names] == names
        set_here = {name: value for name, value in values.items() if value and name in names}
        assert len(set_here) > 30
        assert Settings.load(set_here) == Settings.load({})

    def test_have_every_setting(self) -> None:
        for field in Settings.model_fields.values():
            assert f"| `{field.validation_alias}` |" in page("settings.md")
            assert field.description

    def test_have_every_command_and_option_with_its_help(self) -> None:
        text = page("cli.md")
        for words, command in every_command():
            assert f"### `{' '.join(words)}" in text
            assert command.help, words
            for parameter in command.params:
                assert parameter.help, (words, parameter.name)


def every_command() -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield every command that does something, by its words; each group has to have help too."""

    def below(command: Any, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
        children: dict[str, Any] = getattr(command, "commands", {})
        assert command.help, words
        if not children:
            yield words, command
        for name, child in children.items():
            if not child.hidden:  # One that services call, not users.
                yield from below(child, (*words, name))

    yield from below(typer.main.get_command(root.app), ("orderstream",))


def event_types() -> list[type[Event]]:
    """Return every type of event that is published: those that no other is made from."""
    found = [t for t in vars(events).values() if isinstance(t, type) and issubclass(t, Event)]
    return [t for t in found if not t.__subclasses__()]


def section_of(kind: type[Event]) -> str:
    (body,) = (
        text
        for heading, text in sections(page("events.md")).items()
        if heading.startswith(f"{kind.__name__}:")
    )
    return body


class TestEvents:
    @pytest.mark.parametrize("kind", event_types())
    def test_each_type_is_there_with_every_field(self, kind: type[Event]) -> None:
        for field in msgspec.structs.fields(kind):
            assert f"`{field.encode_name}`" in section_of(kind)

    @pytest.mark.parametrize("kind", event_types())
    def test_each_type_has_an_example_that_is_one_with_every_field(self, kind: type[Event]) -> None:
        (example,) = code_blocks(section_of(kind), "json")
        event = msgspec.json.decode(example, type=kind)
        assert msgspec.json.encode(event).decode() == example.strip()

    def test_a_line_is_what_is_said(self) -> None:
        for field in msgspec.structs.fields(Line):
            assert f"`{field.encode_name}`" in page("events.md")

    def test_every_topic_is_there(self) -> None:
        for topic in Topics().all():
            assert f"`{topic}`" in page("events.md")


class TestHttp:
    def test_every_route_is_there_with_its_parameters_and_no_other_is(self) -> None:
        described = sections(page("http.md"))
        routes = {route: operation for _, route, operation in GENERATE["operations"]()}
        assert routes.keys() == {h for h in described if re.match("[A-Z]+ /", h)}
        for route, operation in routes.items():
            for parameter in operation.get("parameters", ()):
                name = parameter["name"]
                told, wanted = described[route], f"`{name}"
                if parameter["in"] == "header":  # Case means nothing there.
                    told, wanted = told.lower(), wanted.lower()
                assert parameter["in"] == "path" or wanted in told, (route, name)

    def test_the_other_path_of_the_post_is_there(self) -> None:
        assert all(
            f"`{path}`" in page("http.md") or f" {path}`" in page("http.md") for path in PATHS
        )

    def test_every_problem_is_there_with_its_status(self) -> None:
        listed = set(re.findall(r"^\| (\d{3}) \| `([a-z-]+)` \|", page("http.md"), re.MULTILINE))
        listed.add(("503", "not-ready"))
        known = {kind for _, kind in listed}
        problem = r'(?:Problem|problem_response|_refused)\(\s*(\w+),\s*"([a-z-]+)"'
        raised = [
            found
            for source in (TOP / "src").rglob("*.py")
            for found in re.findall(problem, source.read_text("utf-8"))
        ]
        assert len(raised) > 15
        for status, kind in raised:
            assert (status, kind) in listed if status.isdigit() else kind in known, (status, kind)
        from_titles = {TITLES[status].lower().replace(" ", "-") for status in (404, 405)}
        assert known == {kind for _, kind in raised} | from_titles
