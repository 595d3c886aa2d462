"""Where messages arrive in tests: a real mail server and a real web server, sound or at fault."""

import json
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword
from standardwebhooks.webhooks import Webhook

SECRET = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
USER, PASSWORD = "shop", "a-mail-password"


class Mailbox:
    """A mail server's inside: keeps every mail; `answer` may say something else than 250 to one."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        self.answer: Callable[[EmailMessage], str | None] = lambda _: None
        self.refuses_recipient: Callable[[str], str | None] = lambda _: None
        self.ids: Counter[str] = Counter()

    async def handle_RCPT(self, _s: Any, _session: Any, envelope: Any, to: str, _o: Any) -> str:
        if said := self.refuses_recipient(to):
            return said
        envelope.rcpt_tos.append(to)
        return "250 OK"

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:
        mail = cast("EmailMessage", message_from_bytes(envelope.content, policy=policy.default))
        if said := self.answer(mail):
            return said
        self.mails.append(mail)
        self.ids[str(mail["Message-ID"])] += 1
        return "250 kept"


class _Quiet(Controller):
    def factory(self) -> SMTP:
        return SMTP(self.handler, ident="test", **self.SMTP_kwargs)


@contextmanager
def mail_server(port: int, certificate: Any = None) -> Generator[Mailbox]:
    """Run a mail server; with a certificate it wants TLS (STARTTLS) and a sign-in."""
    box = Mailbox()
    options: dict[str, Any] = {}
    if certificate is not None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate.certificate("server"), certificate.key("server"))

        def check(_s: Any, _session: Any, _e: Any, _mechanism: str, given: Any) -> AuthResult:
            good = isinstance(given, LoginPassword) and given == LoginPassword(
                USER.encode(), PASSWORD.encode()
            )
            return AuthResult(success=good, handled=False, auth_data=given)

        options = {
            "tls_context": context,
            "require_starttls": True,
            "auth_required": True,
            "authenticator": check,
        }
    controller = _Quiet(box, "127.0.0.1", port, **options)
    controller.start()
    try:
        yield box
    finally:
        controller.stop()


class Hooks:
    """A web server's inside: verifies each webhook, keeps it, and answers as it is told."""

    def __init__(self) -> None:
        self.got: list[dict[str, Any]] = []
        self.heads: list[dict[str, str]] = []
        self.ids: Counter[str] = Counter()
        self.attempts: Counter[str] = Counter()
        self.faults: list[str] = []
        self.answer: Callable[[dict[str, Any]], tuple[int, dict[str, str]]] = lambda _: (204, {})
        self.address = ""
        self._lock = threading.Lock()

    def take(self, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str]]:
        try:
            document = Webhook(SECRET).verify(body, headers)
        except Exception as error:  # noqa: BLE001 - told to the test
            self.faults.append(repr(error))
            return 401, {}
        name = headers["webhook-id"]
        with self._lock:
            self.attempts[name] += 1
        status, more = self.answer(document)
        if 200 <= status < 300:
            with self._lock:
                self.got.append(document)
                self.heads.append(headers)
                self.ids[name] += 1
        return status, more


@contextmanager
def web_server(port: int = 0, certificate: Any = None) -> Generator[Hooks]:
    """Run a web server for webhooks; a status of 0 hangs up in the middle of the answer."""
    hooks = Hooks()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            length = int(self.headers["content-length"])
            body = self.rfile.read(length)
            if len(body) < length:  # The sender was killed in the middle of it.
                self.close_connection = True
                return
            headers = {name.lower(): value for name, value in self.headers.items()}
            status, more = hooks.take(headers, body)
            if status == 0:
                self.wfile.write(b"HTTP/1.1 20")
                self.close_connection = True
                return
            self.send_response(status)
            for name, value in more.items():
                self.send_header(name, value)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    if certificate is not None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate.certificate("server"), certificate.key("server"))
        server.socket = context.wrap_socket(server.socket, server_side=True)
    scheme = "http" if certificate is None else "https"
    hooks.address = f"{scheme}://127.0.0.1:{server.server_address[1]}/hooks"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield hooks
    finally:
        server.shutdown()
        server.server_close()


class Gateway:
    """Keeps what comes, with the path that it came to; the first to each `unanswered` path too."""

    def __init__(self) -> None:
        self.got: list[tuple[str, dict[str, Any]]] = []
        self.status = 200
        self.unanswered: set[str] = set()
        self.port = 0


@contextmanager
def sms_gateway() -> Generator[Gateway]:
    """Run a web server that takes JSON, as an SMS gateway does."""
    inside = Gateway()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if inside.status == 200:
                inside.got.append((self.path, json.loads(body)))
            if self.path in inside.unanswered:
                inside.unanswered.remove(self.path)
                self.close_connection = True
                return
            self.send_response(inside.status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    inside.port = server.server_address[1]
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield inside
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def bad_server(speak: Callable[[socket.socket], None]) -> Generator[int]:
    """Listen on a port and do what `speak` does with each connection; give the port."""
    listener = socket.create_server(("127.0.0.1", 0))
    over = threading.Event()
    held: list[socket.socket] = []

    def serve() -> None:
        while not over.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            held.append(connection)
            threading.Thread(target=_quietly, args=(speak, connection), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        over.set()
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for connection in held:
            connection.close()


def _quietly(speak: Callable[[socket.socket], None], connection: socket.socket) -> None:
    with suppress(OSError):
        speak(connection)


def says_nothing(connection: socket.socket) -> None:
    """Take what comes and never answer."""
    while connection.recv(65536):
        pass


def drips(connection: socket.socket) -> None:
    """Answer a letter at a time, without an end: no single wait is long."""
    connection.recv(65536)
    while True:
        connection.sendall(b"H")
        time.sleep(0.02)


def hangs_up(connection: socket.socket) -> None:
    """Take what comes and hang up."""
    connection.recv(65536)
    connection.close()
