"""`order import`: place the orders of a file, sent and answered at the same time."""

import http.client
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, cast
from urllib.parse import urlsplit

import msgspec
import typer

from orderstream.cli import settings
from orderstream.cli.orders import orders
from orderstream.cli.output import (
    HTTP_TIMEOUT_S,
    AsJson,
    absent,
    key_headers,
    problem_sentence,
    refusal,
)
from orderstream.contract.errors import OutcomeUnknown

if TYPE_CHECKING:
    from orderstream.runtime.settings import Settings

PATH = "/api/orders:bulk"
PIECE_BYTES = 64 << 10
SILENCE_MAX_S = 90.0  # The service itself says after 60 s that nothing came.
SHOW_EVERY = 500  # Answers.
ACCEPTED = 202
OK = 200


class Answer(msgspec.Struct):
    """What a line's answer is counted by."""

    line: int
    status: int
    replayed: bool = False


_read_answer = msgspec.json.Decoder(Answer).decode


@orders.command("import")
def import_orders(
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="Orders, one a line (NDJSON); `-` is stdin.")
    ],
    as_json: AsJson = False,
) -> None:
    """Place all orders of a file through one connection, in any of the three shapes.

    Prints what was not accepted, by line; with --json every answer. A file whose orders bring their
    own ids may be imported again: each is still one order. Exit code 1 if any was not accepted.
    """
    accepted = replayed = others = 0
    with _source(file) as (source, size), _progress(size) as show:
        sent = Sent(source)
        for line in answers(settings.load(), sent):
            answer = _read_answer(line)
            if answer.status == ACCEPTED:
                accepted += 1
                replayed += answer.replayed
            else:
                others += 1
            if as_json:
                print(line.decode())
            elif answer.status != ACCEPTED:
                print(f"line {answer.line}: {answer.status} {problem_sentence(line)}")
            if (accepted + others) % SHOW_EVERY == 0:
                show(sent.bytes, accepted, others)
    if sent.fault is not None:
        raise typer.BadParameter(f"{file}: {sent.fault.strerror}")
    if not as_json:
        before = f", {replayed:,} of them before" if replayed else ""
        print(f"{accepted:,} accepted{before}; {others:,} not accepted")
    if others:
        raise typer.Exit(1)


class Sent:
    """A file that is sent, and how far that is."""

    def __init__(self, source: BinaryIO) -> None:
        self._source = source
        self.bytes = 0
        self.fault: OSError | None = None  # Of reading the file.

    def pieces(self) -> Iterator[bytes]:
        """Yield pieces as they can be read; a fault ends them."""
        read: Callable[[int], bytes] = getattr(self._source, "read1", self._source.read)
        try:
            while piece := read(PIECE_BYTES):
                yield piece
                self.bytes += len(piece)
        except OSError as error:
            self.fault = error
        except ValueError:
            if not self._source.closed:
                raise
            # The answers have ended before the file, and it was closed for that.


def answers(current: "Settings", sent: Sent) -> Iterator[bytes]:
    """Yield the answers, each a line, while the rest is sent.

    Raises Unavailable, Refused, or OutcomeUnknown when the service breaks off.
    """
    address = current.address("order")
    at = urlsplit(address)
    client = http.client.HTTPConnection(at.hostname or "", at.port, timeout=HTTP_TIMEOUT_S)
    try:
        client.connect()
    except OSError:
        raise absent("order", address) from None
    client.sock.settimeout(SILENCE_MAX_S)
    got = 0
    try:
        client.putrequest("POST", PATH)
        headers = {"content-type": "application/x-ndjson", "transfer-encoding": "chunked"}
        for name, value in (headers | key_headers(current)).items():
            client.putheader(name, value)
        client.endheaders()
        threading.Thread(target=_send, args=(client, sent), daemon=True).start()
        answer = client.getresponse()
        if answer.status != OK:
            raise refusal("order", address, answer.status, answer.read())
        rest = b""
        while piece := answer.read1(
            PIECE_BYTES
        ):  # It tells an end that is cut short; lines do not.
            *lines, rest = (rest + piece).split(b"\n")
            yield from lines
            got += len(lines)
    except (OSError, http.client.HTTPException) as error:
        raise OutcomeUnknown(
            f"the order service at {address} broke off after {got:,} answers ({error!r});"
            " whether the orders behind them were accepted is not known: those that bring their"
            " own ids can be imported again"
        ) from None
    finally:
        client.close()


def _send(client: http.client.HTTPConnection, sent: Sent) -> None:
    """Send the file; who reads the answers learns why if that breaks off."""
    client.auto_open = 0  # What was broken off is not begun anew.
    with suppress(OSError, http.client.NotConnected):
        for piece in sent.pieces():
            client.send(b"%x\r\n%b\r\n" % (len(piece), piece))
        client.send(b"0\r\n\r\n")


@contextmanager
def _source(name: str) -> Generator[tuple[BinaryIO, int | None]]:
    """Give a file to read and its size, or stdin for `-`. Raises BadParameter."""
    if name == "-":
        yield cast("BinaryIO", sys.stdin.buffer), None
        return
    try:
        file = Path(name).open("rb")  # noqa: SIM115 - closed below
    except OSError as error:
        raise typer.BadParameter(f"{name}: {error.strerror}") from None
    with file:
        yield file, Path(name).stat().st_size or None


@contextmanager
def _progress(size: int | None) -> Generator[Callable[[int, int, int], Any]]:
    """Give what shows progress on a terminal, or does nothing when no person looks on."""
    if not sys.stderr.isatty():
        yield lambda _sent, _accepted, _others: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    bar = Progress(
        TextColumn("importing orders"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    task = bar.add_task("", total=size)

    def show(sent: int, accepted: int, others: int) -> None:
        more = f", {others:,} not" if others else ""
        bar.update(task, completed=sent, description=f"{accepted:,} accepted{more}")

    with bar:
        yield show
