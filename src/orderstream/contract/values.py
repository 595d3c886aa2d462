"""The values every event is made of, and the limits that make one acceptable."""

import re
from functools import lru_cache
from typing import Annotated

from msgspec import Meta, Struct

QUANTITY_MAX = 1_000_000
ITEMS_MAX = 500
ID_LENGTH_MAX = 128
SKU_LENGTH_MAX = 64
NUMBER_MAX = 2**53 - 1  # The largest whole number that every JSON reader keeps exactly.

# C0 and C1 control characters, and the separators that would break a log line or a Kafka key.
_CONTROL_CHARACTERS = r"\u0000-\u001f\u007f-\u009f\u2028\u2029"
_CONTROL = re.compile(f"[{_CONTROL_CHARACTERS}]")
# The rest of what Python takes for white space, of which no text may consist alone.
_SPACES = r"\u0020\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000"
_GOOD_TEXT = f"^[{_SPACES}]*[^{_CONTROL_CHARACTERS}{_SPACES}][^{_CONTROL_CHARACTERS}]*$"


def text(length_max: int) -> Meta:
    """Describe an id or SKU in JSON Schema; `text_fault` is what holds it to that."""
    return Meta(extra_json_schema={"minLength": 1, "maxLength": length_max, "pattern": _GOOD_TEXT})


Sku = Annotated[str, text(SKU_LENGTH_MAX)]
Id = Annotated[int, Meta(ge=-NUMBER_MAX, le=NUMBER_MAX)] | Annotated[str, text(ID_LENGTH_MAX)]


# As HTML's forms take it, but for `=?`, which begins an encoded word: one address, and no other.
EMAIL = r"^[A-Za-z0-9.!#$%&'*+/^_`{|}~-]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+$"
EMAIL_LENGTH_MAX = 254  # RFC 5321.
PHONE = r"^\+[1-9][0-9]{6,14}$"  # E.164.
LOCALE = r"^[A-Za-z]{2,3}([-_][A-Za-z0-9]{2,8}){0,3}$"  # BCP 47: tr, pt-BR, zh-Hant-TW.
_EMAIL, _PHONE, _LOCALE = re.compile(EMAIL), re.compile(PHONE), re.compile(LOCALE)


def _said(**schema: object) -> Meta:
    """Describe a text in the schemas; `contact_fault` is what holds it to that."""
    return Meta(extra_json_schema=schema)


class Contact(Struct, frozen=True, omit_defaults=True, gc=False):
    """How a customer is told of an order; for what is not given, the shop has defaults."""

    email: Annotated[str, _said(maxLength=EMAIL_LENGTH_MAX, pattern=EMAIL)] | None = None
    phone: Annotated[str, _said(pattern=PHONE)] | None = None
    locale: Annotated[str, _said(pattern=LOCALE)] | None = None


class Line(Struct, frozen=True, gc=False):
    """So many of one SKU."""

    sku: Sku
    qty: Annotated[int, Meta(extra_json_schema={"minimum": 1})]


def has_control_characters(text: str) -> bool:
    """Tell whether there is a character that no id, SKU or parameter may have."""
    return not (text.isascii() and text.isprintable()) and _CONTROL.search(text) is not None


def text_fault(value: str, length_max: int) -> str | None:
    """Say what is wrong with an id or SKU, or None when it is acceptable."""
    if not value or value.isspace():
        return "must not be empty"
    if len(value) > length_max:
        return f"must have at most {length_max} characters, has {len(value)}"
    if value.isascii() and value.isprintable():
        return None
    if has_control_characters(value):
        return "must not contain control characters"
    try:
        value.encode()
    except UnicodeEncodeError:
        return "must be valid Unicode text"
    return None


@lru_cache(maxsize=4096)  # A shop's orders name the same goods again and again.
def sku_fault(sku: str) -> str | None:
    """Say what is wrong with an SKU, or None."""
    return text_fault(sku, SKU_LENGTH_MAX)


def contact_fault(contact: Contact) -> tuple[str, str] | None:
    """Return the field that is wrong and what is wrong with it, or None."""
    if (email := contact.email) is not None and (
        len(email) > EMAIL_LENGTH_MAX or not _EMAIL.fullmatch(email)
    ):
        return "email", "must be one address, such as ada@example.com"
    if contact.phone is not None and not _PHONE.fullmatch(contact.phone):
        return "phone", "must be a number with its country, such as +4915112345678"
    if contact.locale is not None and not _LOCALE.fullmatch(contact.locale):
        return "locale", "must be a language, such as en, tr or pt-BR"
    return None


def quantities_by_sku(lines: tuple[Line, ...]) -> dict[str, int]:
    """Sum the lines that name one SKU: two lines of three mugs want six mugs."""
    if len(lines) == 1:
        return {lines[0].sku: lines[0].qty}
    wanted: dict[str, int] = {}
    for line in lines:
        wanted[line.sku] = wanted.get(line.sku, 0) + line.qty
    return wanted
