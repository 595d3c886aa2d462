"""Signed webhooks, by Standard Webhooks (https://github.com/standard-webhooks/standard-webhooks).

What is asked for is fixed by the settings, and still a name may point anywhere: an address that is
not public is refused when the connection is made, after the name was looked up, and a redirect is
never followed. Nothing of an answer is kept but its status.
"""

import base64
import binascii
import hmac
import socket
import threading
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from ssl import SSLContext
from typing import Any

import httpcore
import msgspec

from orderstream import __version__
from orderstream.contract.envelope import rfc3339
from orderstream.contract.errors import Malformed
from orderstream.notification.channels import SEND_TIMEOUT_S
from orderstream.notification.ids import message_id
from orderstream.notification.rules import Message, NotSent, Result, Sent
from orderstream.notification.store import Intent
from orderstream.runtime.clock import Clock, monotonic

CONNECT_TIMEOUT_S = 5.0
SECRET_BYTES = range(24, 65)
SLOW_DOWN = frozenset({429, 502, 503, 504})
RETRY_AFTER_MAX_S = 86_400.0

_NAT64 = IPv6Network("64:ff9b::/96")


class WebhookChannel:
    """Posts each message to one endpoint, signed with every secret (two, while one is replaced)."""

    personal = False
    every_s = 0.0

    def __init__(
        self,
        name: str,
        url: str,
        secrets: Sequence[bytes],
        clock: Clock,
        *,
        connections: int,
        allow_private: bool = False,
        ssl_context: SSLContext | None = None,
    ) -> None:
        self.name = name
        self._url = url
        self._secrets = secrets
        self._clock = clock
        self._due = threading.local()
        self._pool = httpcore.ConnectionPool(
            ssl_context=ssl_context,
            max_connections=connections,
            keepalive_expiry=30.0,
            network_backend=_Guarded(self._left_s, allow_private=allow_private),
        )

    def send(self, intent: Intent) -> Result:
        """See Channel."""
        body = payload(intent.event_id, intent.message)
        now = self._clock()
        name = message_id(intent.event_id, self.name)
        headers = {
            "content-type": "application/json",
            "user-agent": f"orderstream/{__version__}",
            "webhook-id": name,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": signatures(self._secrets, name, now, body),
        }
        self._due.at = monotonic() + SEND_TIMEOUT_S
        timeout = {
            "connect": CONNECT_TIMEOUT_S,
            "read": SEND_TIMEOUT_S,
            "write": SEND_TIMEOUT_S,
            "pool": SEND_TIMEOUT_S,
        }
        try:
            with self._pool.stream(
                "POST",
                self._url,
                headers=list(headers.items()),
                content=body,
                extensions={"timeout": timeout},
            ) as answer:
                status = answer.status
                after_s = retry_after_s(dict(answer.headers).get(b"retry-after"), now)
                _drain(answer)
        except Refused as error:
            return NotSent(why=str(error), final=True)
        except (httpcore.ConnectError, httpcore.ConnectTimeout, httpcore.PoolTimeout) as error:
            return NotSent(why=f"connecting: {_said(error)}", busy=True)
        except (
            httpcore.TimeoutException,
            httpcore.NetworkError,
            httpcore.ProtocolError,
        ) as error:
            return NotSent(why=f"no answer: {_said(error)}", unknown=True, busy=True)
        return judged(status, after_s)

    def close(self) -> None:
        """See Channel."""
        self._pool.close()

    def _left_s(self) -> float:
        return self._due.at - monotonic()


def judged(status: int, after_s: float | None) -> Result:
    """Say what an answer's status means: only 2xx is success, and a redirect is a failure."""
    if 200 <= status < 300:
        return Sent()
    why = f"the endpoint answered {status}"
    if status == 410:
        return NotSent(why=f"{why} Gone: it wants no more", gone=True)
    return NotSent(why=why, busy=status in SLOW_DOWN, after_s=after_s)


def payload(event_id: str, message: Message) -> bytes:
    """Return the body of a webhook; without the customer's address, which no system needs."""
    data: dict[str, Any] = {
        "eventId": event_id,
        "orderId": message.order_id,
        "status": message.kind.name,
        "userId": message.user_id,
    }
    if message.items:
        data["items"] = message.items
    if message.reason is not None:
        data["reason"] = message.reason
        data["short"] = message.short
    at = rfc3339(message.at.astimezone(UTC))
    return msgspec.json.encode(
        {"type": f"order.{message.kind.value}", "timestamp": at, "data": data}
    )


def signatures(secrets: Sequence[bytes], name: str, at: datetime, body: bytes) -> str:
    """Sign `id.timestamp.body` with each secret."""
    signed = b"%s.%d.%s" % (name.encode(), int(at.timestamp()), body)
    each = (hmac.digest(secret, signed, "sha256") for secret in secrets)
    return " ".join(f"v1,{base64.b64encode(one).decode()}" for one in each)


def read_secret(text: str) -> bytes:
    """Read `whsec_...`. Raises Malformed, without repeating it."""
    try:
        secret = base64.b64decode(text.removeprefix("whsec_"), validate=True)
    except binascii.Error:
        secret = b""
    if not text.startswith("whsec_") or len(secret) not in SECRET_BYTES:
        least, most = SECRET_BYTES[0], SECRET_BYTES[-1]
        raise Malformed(f"a secret is whsec_ and {least} to {most} random bytes in base64")
    return secret


def retry_after_s(said: bytes | None, now: datetime) -> float | None:
    """Read `Retry-After`, in seconds or as a date; None for none that can be read."""
    if said is None:
        return None
    text = said.decode("latin-1").strip()
    try:
        seconds = float(text) if text.isdigit() else _until(text, now)
    except ValueError:
        return None
    return min(max(seconds, 0.0), RETRY_AFTER_MAX_S)


def _until(text: str, now: datetime) -> float:
    at = parsedate_to_datetime(text)
    return ((at if at.tzinfo else at.replace(tzinfo=UTC)) - now).total_seconds()


def _drain(answer: httpcore.Response) -> None:
    """Take a short body, so that the connection can be used again; a long one is left."""
    left = 64 << 10
    for part in answer.iter_stream():
        left -= len(part)
        if left < 0:
            return


class Refused(Exception):
    """The endpoint is not where a webhook may go."""


class _Guarded(httpcore.NetworkBackend):
    """Connects to public addresses only, and ends what drips along when the message's time is up.

    The name is looked up once and the address that was looked at is connected to: one that changes
    its answer in between (DNS rebinding) gains nothing.
    """

    def __init__(self, left_s: Callable[[], float], *, allow_private: bool) -> None:
        self._left_s = left_s
        self._allow_private = allow_private
        self._inner = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise httpcore.ConnectError(str(error)) from error
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        if not self._allow_private:
            for address in addresses:
                if not is_public(address):
                    raise Refused(
                        f"{host} is {address}, which is not public: set"
                        " ORDERSTREAM_WEBHOOK_ALLOW_PRIVATE=1 if webhooks may go there"
                    )
        for address in addresses[:-1]:
            try:
                stream = self._inner.connect_tcp(address, port, timeout, None, socket_options)
                return _Timed(stream, self._left_s)
            except httpcore.ConnectError:
                continue
        stream = self._inner.connect_tcp(addresses[-1], port, timeout, None, socket_options)
        return _Timed(stream, self._left_s)


class _Timed(httpcore.NetworkStream):
    """A stream on which no wait is longer than what is left for the message."""

    def __init__(self, inner: httpcore.NetworkStream, left_s: Callable[[], float]) -> None:
        self._inner = inner
        self._left_s = left_s

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._inner.read(max_bytes, self._wait_s(httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._inner.write(buffer, self._wait_s(httpcore.WriteTimeout))

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self,
        ssl_context: SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        wait_s = self._wait_s(httpcore.ConnectTimeout)
        return _Timed(self._inner.start_tls(ssl_context, server_hostname, wait_s), self._left_s)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)

    def _wait_s(self, late: type[httpcore.TimeoutException]) -> float:
        left_s = self._left_s()
        if left_s <= 0:
            raise late("it took too long")
        return left_s


def is_public(address: str) -> bool:
    """Tell whether an address is one of the Internet's: not this machine's, not a private net's."""
    ip = ip_address(address.partition("%")[0])
    if isinstance(ip, IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo and ip.teredo[1])
        if ip in _NAT64:
            inner = IPv4Address(int(ip) & 0xFFFF_FFFF)
        if inner:
            ip = inner
    return ip.is_global and not ip.is_multicast


def _said(error: Exception) -> str:
    return str(error) or type(error).__name__
