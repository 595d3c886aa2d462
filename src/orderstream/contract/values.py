"""The values every event is made of, and the limits that make one acceptable."""

import re
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


def quantities_by_sku(lines: tuple[Line, ...]) -> dict[str, int]:
    """Sum the lines that name one SKU: two lines of three mugs want six mugs."""
    if len(lines) == 1:
        return {lines[0].sku: lines[0].qty}
    wanted: dict[str, int] = {}
    for line in lines:
        wanted[line.sku] = wanted.get(line.sku, 0) + line.qty
    return wanted
