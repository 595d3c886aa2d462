"""E-mail by SMTP: a connection is kept by each thread that sends, and used again.

The address is Apprise's `mailto://`, which it also reads (its defaults for well-known providers
among them); the sending is ours, because a message that is sent again must have the same
`Message-ID`, and because Apprise does not tell a refusal from what nobody knows (decision 0018).
"""

import re
import smtplib
import ssl
import threading
from contextlib import suppress
from dataclasses import dataclass
from email import policy
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime
from socket import gethostname
from typing import Literal

from orderstream.notification.channels import NO_EMAIL, SEND_TIMEOUT_S, Defaults
from orderstream.notification.ids import message_id
from orderstream.notification.rules import NotSent, Result, Sent
from orderstream.notification.store import Intent
from orderstream.notification.templates import BadTemplate, Templates
from orderstream.runtime.clock import monotonic

IDLE_MAX_S = 20.0  # Servers end a connection that says nothing after a while.
LAST_ANSWER_TIMEOUT_S = 300.0
_AT_A_LINES_START = re.compile(rb"(?m)^\.")
MESSAGES_MAX = 100  # Of one connection, as many servers have it.


@dataclass(frozen=True)
class Server:
    """Where mail is handed in. `to` are fixed addresses; none: the customer's."""

    host: str
    port: int
    secure: Literal["insecure", "ssl", "starttls"]
    user: str | None
    password: str | None
    verify: bool
    sender_name: str
    sender: str
    to: tuple[str, ...] = ()


class _Connection:
    def __init__(self, smtp: smtplib.SMTP) -> None:
        self.smtp = smtp
        self.used_at = monotonic()
        self.sent = 0

    def is_fresh(self) -> bool:
        return self.sent < MESSAGES_MAX and monotonic() - self.used_at < IDLE_MAX_S


class MailChannel:
    """Sends mail in the customer's language, as text and HTML."""

    every_s = 0.0

    def __init__(self, name: str, server: Server, templates: Templates, defaults: Defaults) -> None:
        self.name = name
        self.personal = not server.to
        self._server = server
        self._templates = templates
        self._defaults = defaults
        self._own = threading.local()

    def send(self, intent: Intent) -> Result:
        """See Channel."""
        contact = self._defaults.contact(intent)
        to = self._server.to or ((contact.email,) if contact.email else ())
        if not to:
            return NO_EMAIL
        try:
            mail = self._mail(intent, to, contact.locale or self._defaults.locale)
            written = mail.as_bytes(policy=policy.SMTP)
        except (BadTemplate, ValueError) as error:  # ValueError: a header that cannot be written.
            return NotSent(why=str(error), final=True)
        try:
            connection = self._connection()
        except smtplib.SMTPAuthenticationError as error:
            return NotSent(why=f"signing in: {_said(error)}", busy=True)
        except (OSError, smtplib.SMTPException, ValueError) as error:  # ValueError: no ASCII.
            return NotSent(why=f"connecting: {_said(error)}", busy=True)
        return self._hand_in(connection, to, written)

    def let_go(self) -> None:
        """See Channel."""
        held: _Connection | None = getattr(self._own, "connection", None)
        if held is not None:
            self._own.connection = None
            with suppress(smtplib.SMTPException, OSError):
                held.smtp.quit()
            held.smtp.close()

    def _mail(self, intent: Intent, to: tuple[str, ...], locale: str) -> EmailMessage:
        rendered = self._templates.render(intent.message, locale)
        domain = self._server.sender.rpartition("@")[2] or self._server.host
        mail = EmailMessage()
        mail["Message-ID"] = f"<{message_id(intent.event_id, self.name)}@{domain}>"
        mail["Date"] = format_datetime(intent.created_at)
        mail["From"] = Address(self._server.sender_name, addr_spec=self._server.sender)
        mail["To"] = [Address(addr_spec=address) for address in to]
        mail["Subject"] = rendered.subject
        mail["Auto-Submitted"] = "auto-generated"  # RFC 3834: no out-of-office replies.
        mail.set_content(rendered.text)
        mail.add_alternative(rendered.html, subtype="html")
        mail["Content-Language"] = rendered.locale
        return mail

    def _hand_in(self, connection: _Connection, to: tuple[str, ...], mail: bytes) -> Result:
        """Say it step by step: until its last dot has gone out, a lost connection lost nothing."""
        smtp = connection.smtp
        under_way = False
        try:
            _expect(*smtp.mail(self._server.sender), 250)
            for address in to:
                _expect(*smtp.rcpt(address), 250, 251)
            _expect(*smtp.docmd("DATA"), 354)
            under_way = True
            # Who ends it now may be sent it twice: RFC 5321, 4.5.3.2.6 has clients wait 10 min.
            _wait_at_most(smtp, LAST_ANSWER_TIMEOUT_S)
            smtp.send(_AT_A_LINES_START.sub(b"..", mail) + b".\r\n")
            _expect(*smtp.getreply(), 250)
            _wait_at_most(smtp, SEND_TIMEOUT_S)
        except smtplib.SMTPResponseException as error:
            self._after_refusal(connection)
            # 5xx is for good, except 530 and 535: those are of the sender's rights.
            final = error.smtp_code >= 500 and error.smtp_code not in (530, 535)
            return NotSent(why=_said(error), final=final, busy=error.smtp_code == 421)
        except (OSError, smtplib.SMTPException) as error:
            self.let_go()
            return NotSent(why=_said(error), unknown=under_way, busy=True)
        connection.sent += 1
        connection.used_at = monotonic()
        return Sent()

    # Connections ---------------------------------------------------------------------------

    def _connection(self) -> _Connection:
        held: _Connection | None = getattr(self._own, "connection", None)
        if held is not None:
            if held.is_fresh():
                return held
            self.let_go()
        self._own.connection = connection = _Connection(self._connect())
        return connection

    def _connect(self) -> smtplib.SMTP:
        server = self._server
        # The name is ours to say: smtplib would look it up, which may take seconds.
        at, own = (server.host, server.port), gethostname()
        if server.secure == "ssl":
            smtp = smtplib.SMTP_SSL(*at, own, timeout=SEND_TIMEOUT_S, context=self._context())
        else:
            smtp = smtplib.SMTP(*at, own, timeout=SEND_TIMEOUT_S)
        try:
            if server.secure == "starttls":
                smtp.starttls(context=self._context())
            smtp.ehlo_or_helo_if_needed()
            if server.user and server.password:
                smtp.login(server.user, server.password)
        except BaseException:
            smtp.close()
            raise
        return smtp

    def _context(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        if not self._server.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context

    def _after_refusal(self, connection: _Connection) -> None:
        try:
            _wait_at_most(connection.smtp, SEND_TIMEOUT_S)
            connection.smtp.rset()
            connection.used_at = monotonic()
        except (OSError, smtplib.SMTPException):
            self.let_go()


def _wait_at_most(smtp: smtplib.SMTP, seconds: float) -> None:
    if smtp.sock is not None:
        smtp.sock.settimeout(seconds)


def _expect(code: int, said: bytes, *good: int) -> None:
    if code not in good:
        raise smtplib.SMTPResponseException(code, said)


def _said(error: Exception) -> str:
    if isinstance(error, smtplib.SMTPResponseException):
        said = error.smtp_error
        text = said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)
        return f"the mail server said {error.smtp_code} {text}"
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
