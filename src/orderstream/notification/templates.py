"""The words of a message, by what happened and in which language: Jinja, in its sandbox.

`templates/<language>/<kind>.txt` sets `subject` and `text`; `templates/mail.html` is the HTML of
every mail, around the same text. A folder of the shop's own comes before ours, file by file.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jinja2
from jinja2 import FileSystemLoader, StrictUndefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from msgspec import Struct, structs

from orderstream.contract.errors import ConfigurationError
from orderstream.contract.values import Line
from orderstream.notification.rules import Kind, Message

OURS = Path(__file__).parent / "templates"
LAST_RESORT = "en"
_SAMPLE = Message(
    Kind.CONFIRMED,
    100_000_001,
    datetime(2026, 11, 21, 12, tzinfo=UTC),
    42,
    (Line("ABC-001", 2), Line("<MUG>", 1)),
)


# Whatever an expression in a template may end in.
_ITS_OWN = (
    jinja2.TemplateError,
    AttributeError,
    ArithmeticError,
    LookupError,
    TypeError,
    ValueError,
)


class Rendered(Struct, frozen=True):
    """What a customer reads."""

    locale: str
    subject: str
    text: str
    html: str


class BadTemplate(Exception):
    """A template of the shop's own cannot be rendered."""


class Templates:
    """Every message in every language there is; for any thread."""

    def __init__(self, own: Path | None = None) -> None:
        folders = [OURS] if own is None else [own, OURS]
        loader = FileSystemLoader(folders)
        self._folders = folders
        # Autoescape would spoil plain text; the HTML is of an environment of its own.
        self._plain: Any = ImmutableSandboxedEnvironment(
            loader=loader,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,  # What runs is what was looked at when it started.
        )
        self._html: Any = ImmutableSandboxedEnvironment(
            loader=loader, undefined=StrictUndefined, autoescape=True, auto_reload=False
        )

    def render(self, message: Message, locale: str) -> Rendered:
        """Write a message in a language, or the nearest there is. Raises BadTemplate."""
        names = [f"{one}/{message.kind}.txt" for one in nearest(locale)]
        known = {
            "order_id": message.order_id,
            "user_id": message.user_id,
            "items": message.items,
            "reason": message.reason,
            "short": message.short,
        }
        try:
            template = self._plain.select_template(names)
            module = template.make_module(known)
            subject, text = " ".join(str(module.subject).split()), str(module.text).strip()
            language = (template.name or LAST_RESORT).partition("/")[0]
            html = self._html.get_template("mail.html").render(
                known, subject=subject, paragraphs=text.split("\n\n"), locale=language
            )
        except _ITS_OWN as error:
            raise BadTemplate(f"{names[0]}: {type(error).__name__}: {error}") from error
        return Rendered(language, subject, text, html)

    def languages(self) -> list[str]:
        """Return the languages there are."""
        return sorted(
            {path.name for folder in self._folders for path in folder.iterdir() if path.is_dir()}
        )

    def check(self) -> None:
        """Render everything once. Raises ConfigurationError naming each template at fault."""
        faults: list[str] = []
        for language in self.languages():
            for said in _every_kind():
                try:
                    self.render(said, language)
                except BadTemplate as error:
                    faults.append(f"ORDERSTREAM_TEMPLATES: {error}")
        if faults:
            raise ConfigurationError(*dict.fromkeys(faults))


def _every_kind() -> Iterator[Message]:
    yield from map(sample, Kind)
    yield structs.replace(sample(Kind.REJECTED), reason="UNKNOWN_SKU")
    yield Message(Kind.FAILED, "of which nothing can be read", _SAMPLE.at)


def nearest(locale: str) -> Sequence[str]:
    """Return the languages to look for, best first: pt-BR, pt, en."""
    parts = locale.replace("_", "-").split("-")
    exact = ["-".join([parts[0].lower(), *parts[1:n]]) for n in range(len(parts), 0, -1)]
    return [*exact, LAST_RESORT]


def sample(kind: Kind) -> Message:
    """Return a message to look at, or to test with; nobody's."""
    if kind is Kind.REJECTED:
        return structs.replace(_SAMPLE, kind=kind, reason="OUT_OF_STOCK", short=("<MUG>",))
    return structs.replace(_SAMPLE, kind=kind)
