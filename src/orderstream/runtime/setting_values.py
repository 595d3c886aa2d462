"""What a setting may be: types that pydantic checks, and addresses that it cannot."""

from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from orderstream.contract.values import Contact, contact_fault

Port = Annotated[int, Field(ge=1, le=65535)]
TopicName = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,200}$")]
WAIT_MAX_S = 30 * 86_400


def _of_contact(name: str) -> AfterValidator:
    def checked(text: str) -> str:
        if wrong := contact_fault(Contact(**{name: text})):
            raise PydanticCustomError("contact", "{fault}", {"fault": wrong[1]})
        return text

    return AfterValidator(checked)


def _waits(text: str) -> str:
    try:
        if all(0 <= wait <= WAIT_MAX_S for wait in seconds_of(text)):
            return text
    except ValueError:
        pass
    raise PydanticCustomError(
        "waits", "must be seconds of at most 30 days, comma-separated, such as 5,300,1800"
    )


def seconds_of(text: str) -> tuple[float, ...]:
    """Read waits. Raises ValueError."""
    return tuple(float(part) for part in text.split(","))


Email = Annotated[str, _of_contact("email")]
Phone = Annotated[str, _of_contact("phone")]
Locale = Annotated[str, _of_contact("locale")]
Waits = Annotated[str, AfterValidator(_waits)]


def is_for_each(template: str) -> bool:
    """Tell whether this becomes the address of each service, and not the same for two."""
    try:
        known = {"order": 1, "view": 2}
        found = {template.format(service=service, port=port) for service, port in known.items()}
        return len(found) == 2 and all(
            urlsplit(url).scheme in ("http", "https") and urlsplit(url).hostname for url in found
        )
    except (ValueError, LookupError, AttributeError):
        return False


def is_of_redis(url: str) -> bool:
    """Tell whether this is an address of Redis: an unescaped `/` ends a password too early."""
    try:
        parts = urlsplit(url)
        _ = parts.port  # Raises for one that is none.
    except ValueError:
        return False
    if parts.scheme == "unix":
        return bool(parts.path)
    return parts.scheme in ("redis", "rediss") and bool(parts.hostname) and not parts.fragment


def parts_of_dsn(dsn: str) -> dict[str, Any] | None:
    """Return the parts of a connection string, or None where it is none.

    A password whose `@` or `/` was not escaped stands in other parts: that is none either.
    """
    from psycopg import ProgrammingError
    from psycopg.conninfo import conninfo_to_dict

    try:
        parts: dict[str, Any] = conninfo_to_dict(dsn)
    except ProgrammingError:
        return None
    ports = str(parts.get("port", "")).replace(",", "")
    return parts if (not ports or ports.isdigit()) and "@" not in parts.get("host", "") else None
