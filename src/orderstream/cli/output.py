"""What every command shares: tables, JSON, and the services' HTTP APIs with errors in words."""

import re
import sys
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import chain, islice
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, cast
from urllib.parse import quote

import msgspec
import typer

from orderstream.contract.errors import OrderstreamError, OutcomeUnknown, Unavailable

if TYPE_CHECKING:
    import httpx
    from rich.table import Table

    from orderstream.runtime.settings import Settings

HTTP_TIMEOUT_S = 10.0
TABLE_ROWS_MAX = 500  # A longer list is printed as it comes: a table has to wait for its last row.

# What could move the cursor, colour the screen or forge a second line.
# Half a surrogate pair could not be written at all.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")

Row = Sequence[object]
AsJson = Annotated[
    bool,
    typer.Option("--json", help="Print JSON: one document, or one line for each thing of a list."),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


class Refused(OrderstreamError):
    """A service understood the request and said no, for the reason that the message gives."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


# Text and JSON -----------------------------------------------------------------------------


def on_terminal() -> bool:
    """Tell whether a person reads what is printed, rather than a program."""
    return sys.stdout.isatty()


def printable(value: object) -> str:
    """Write any value on one line, with the control characters of foreign text made visible."""
    text = "" if value is None else str(value)
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def print_json(value: object) -> None:
    """Print one JSON document: indented on a terminal, on one line otherwise."""
    document = msgspec.json.encode(value)
    if on_terminal():
        document = msgspec.json.format(document, indent=2)
    print(document.decode())


def print_json_lines(values: Iterable[object]) -> None:
    """Print one JSON document a line (NDJSON), each as soon as it is known."""
    for value in values:
        print(msgspec.json.encode(value).decode())


def print_table(headings: Sequence[str], rows: Iterable[Row]) -> None:
    """Print rows under headings: a Rich table on a terminal, aligned text when piped."""
    rest = iter(rows)
    first = list(islice(rest, TABLE_ROWS_MAX))
    more = list(islice(rest, 1))
    if on_terminal() and not more:
        from rich.console import Console

        Console().print(rich_table(headings, first))
        return
    for line in aligned(headings, chain(first, more, rest)):
        print(line)


def rich_table(headings: Sequence[str], rows: Iterable[Row]) -> "Table":
    """Return a Rich table; columns of numbers are set to the right."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    listed = list(rows)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False, header_style="bold")
    numbers = columns_of_numbers(listed, len(headings))
    for column, heading in enumerate(headings):
        table.add_column(
            heading,
            justify="right" if numbers[column] else "left",
            overflow="fold",
            no_wrap=column == 0,  # What names the row is never broken.
        )
    for row in listed:
        table.add_row(*(Text(printable(cell)) for cell in row))
    return table


def aligned(headings: Sequence[str], rows: Iterable[Row]) -> Iterator[str]:
    """Write rows as lines of aligned columns, looking ahead no further than TABLE_ROWS_MAX."""
    rest = iter(rows)
    batch = list(islice(rest, TABLE_ROWS_MAX))
    numbers = columns_of_numbers(batch, len(headings))
    widths = [0] * len(headings)
    lines: list[Row] = [headings, *batch]
    while lines:
        cells = [[printable(cell) for cell in row] for row in lines]
        widths = [max(w, *(len(row[at]) for row in cells)) for at, w in enumerate(widths)]
        for row in cells:
            yield _line(row, widths, numbers)
        lines = list(islice(rest, TABLE_ROWS_MAX))


def columns_of_numbers(rows: Sequence[Row], columns: int) -> list[bool]:
    """Tell for each column whether it holds whole numbers only."""
    return [
        bool(rows) and all(isinstance(row[column], int) for row in rows)
        for column in range(columns)
    ]


def _line(cells: Sequence[str], widths: Sequence[int], to_the_right: Sequence[bool]) -> str:
    columns = zip(cells, widths, to_the_right, strict=True)
    parts = [cell.rjust(width) if right else cell.ljust(width) for cell, width, right in columns]
    return "  ".join(parts).rstrip()


def print_facts(facts: Iterable[tuple[str, object]]) -> None:
    """Print names and values, one pair a line; a value of None is left out."""
    known = [(name, printable(value)) for name, value in facts if value is not None]
    width = max((len(name) for name, _ in known), default=0)
    for name, value in known:
        print(f"{name.ljust(width)}  {value}")


def hint(message: str) -> None:
    """Say something to the person at the terminal that is no part of the output."""
    typer.echo(message, err=True)


def read_time_ms(text: str) -> int:
    """Read a time (ISO 8601; UTC without a zone) as ms since 1970. Raises ValueError."""
    at = datetime.fromisoformat(text)
    return round((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)


def read_input(name: str) -> bytes:
    """Read a file, or stdin for `-`. Raises BadParameter, so that the command exits with 2."""
    if name == "-":
        return cast("BinaryIO", sys.stdin.buffer).read()
    try:
        with open(name, "rb") as file:
            return file.read()
    except OSError as error:
        raise typer.BadParameter(f"{name}: {error.strerror}") from None


# HTTP ------------------------------------------------------------------------------------------


def in_path(text: str) -> str:
    """Write an id or SKU as one part of a URL's path, whatever its characters."""
    quoted = quote(text, safe="")
    # A part of dots alone would be taken for this folder or the one above.
    return quoted if quoted.strip(".") else quoted.replace(".", "%2E")


class Api:
    """One service's HTTP API. Every request raises Unavailable or Refused with what to do."""

    def __init__(self, service: str, client: "httpx.Client") -> None:
        self._service = service
        self._client = client
        self._address = str(client.base_url).rstrip("/")

    def get(self, path: str, **query: object) -> Any:
        """Return what is there, decoded; parameters that are None are left out."""
        given = {name: value for name, value in query.items() if value is not None}
        return self.read(self.send("GET", path, params=given))

    def send(self, method: str, path: str, **options: Any) -> "httpx.Response":
        """Send a request and return its answer, which is one of success."""
        import httpx

        who = f"the {self._service} service"
        try:
            answer = self._client.request(method, path, **options)
        except httpx.ConnectError:
            raise absent(self._service, self._address) from None
        except httpx.TimeoutException:
            raise _no_answer(method, f"{who} at {self._address} took too long") from None
        except httpx.HTTPError as error:
            raise _no_answer(method, f"{who} at {self._address} broke off ({error})") from None
        if not answer.is_success:
            raise refusal(self._service, self._address, answer.status_code, answer.content)
        return answer

    def read(self, answer: "httpx.Response") -> Any:
        """Decode an answer's JSON."""
        try:
            return msgspec.json.decode(answer.content)
        except msgspec.DecodeError:
            raise _stranger(self._service, self._address, answer.status_code) from None


def absent(service: str, address: str) -> Unavailable:
    """Say that nobody is there."""
    return Unavailable(
        f"the {service} service does not answer at {address}: start it with `orderstream up`"
    )


def refusal(service: str, address: str, status: int, body: bytes) -> Refused:
    """Say what a service says that refuses, or that it is none of ours."""
    try:
        return Refused(problem_sentence(body), status)
    except msgspec.DecodeError:
        return _stranger(service, address, status)


def _stranger(service: str, address: str, status: int) -> Refused:
    return Refused(
        f"{address} answers {status}, but not like the {service} service: another program may"
        " have the port, see `orderstream config`",
        status,
    )


def _no_answer(method: str, what: str) -> Unavailable:
    if method == "GET":
        return Unavailable(f"{what}: see what is wrong with `orderstream doctor`")
    return OutcomeUnknown(f"{what}; whether it was done is not known: look before you repeat it")


class _ProblemDocument(msgspec.Struct):
    """The members of RFC 9457 that we show."""

    title: str = ""
    detail: str = ""
    field: str = ""
    orderId: int | str | None = None


def problem_sentence(body: bytes) -> str:
    """Return a problem document (RFC 9457) as one line. Raises msgspec.DecodeError."""
    problem = msgspec.json.decode(body, type=_ProblemDocument)
    sentence = printable(problem.detail or problem.title)
    if not sentence:
        raise msgspec.DecodeError("not a problem document")
    if problem.orderId is not None and str(problem.orderId) not in sentence:
        sentence = f"{sentence} (orderId {printable(problem.orderId)})"
    if problem.field and problem.field.lower() not in sentence.lower():
        return f"{printable(problem.field)}: {sentence}"
    return sentence


def key_headers(settings: "Settings") -> dict[str, str]:
    """Return what signs a request in: nothing where no key is set."""
    if settings.api_key is None:
        return {}
    return {"authorization": f"Bearer {settings.api_key.get_secret_value()}"}


@contextmanager
def api_of(
    service: str,
    settings: "Settings",
    timeout_s: float = HTTP_TIMEOUT_S,
    at: str | None = None,
) -> Generator[Api]:
    """Give a service's HTTP API at this address, or else at that which the settings say."""
    import httpx

    # A proxy in the environment is for the world outside, not for this machine's own services.
    with httpx.Client(
        base_url=at or settings.address(service),
        timeout=timeout_s,
        trust_env=False,
        headers=key_headers(settings),
    ) as client:
        yield Api(service, client)
