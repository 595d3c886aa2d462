"""Signed webhooks, by Standard Webhooks (https://github.com/standard-webhooks/standard-webhooks).

What is asked for is fixed by the settings, and still a name may point anywhere: an address that is
not public is refused when the connection is made, after the name was looked up, and a redirect is
never followed. Nothing of an answer is kept but its status.
"""

import base64
import hmac
import socket
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from ssl import SSLContext
from typing import Any

import httpcore
import msgspec

from orderstream import __version__
from orderstream.contract.envelope import TRACEPARENT, rfc3339
from orderstream.notification.channels import SEND_TIMEOUT_S
from orderstream.notification.ids import message_id
from orderstream.notification.rules import Message, NotSent, Result, Sent
from orderstream.notification.store import Intent
from orderstream.runtime.clock import Clock, monotonic

CONNECT_TIMEOUT_S = 5.0
REST_TIMEOUT_S = 1.0  # For the body of an answer whose status is known.
SLOW_DOWN = frozenset({429, 502, 503, 504})
RETRY_AFTER_MAX_S = 86_400.0

# The Internet's IPv6, but for what was set aside since Python's tables were made (RFC 9637).
_INTERNET = IPv6Network("2000::/3")
_SET_ASIDE = (IPv6Network("3fff::/20"), IPv6Network("2001:db8::/32"))
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
        allow_private: bool = False,
        ssl_context: SSLContext | None = None,
    ) -> None:
        self.name = name
        self._url = url
        self._secrets = secrets
        self._clock = clock
        self._allow_private = allow_private
        self._ssl_context = ssl_context
        self._own = threading.local()  # Each thread has a connection and a time of its own.

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
        if intent.message.traceparent is not None:
            headers[TRACEPARENT] = intent.message.traceparent
        self._own.due = monotonic() + SEND_TIMEOUT_S
        timeout = {
            "connect": CONNECT_TIMEOUT_S,
            "read": SEND_TIMEOUT_S,
            "write": SEND_TIMEOUT_S,
            "pool": SEND_TIMEOUT_S,
        }
        try:
            with self._pool().stream(
                "POST",
                self._url,
                headers=list(headers.items()),
                content=body,
                extensions={"timeout": timeout},
            ) as answer:
                self._own.due = monotonic() + REST_TIMEOUT_S  # What follows changes nothing.
                result = judged(answer.status, retry_after_s(_header(answer, b"retry-after"), now))
                with suppress(
                    httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError
                ):
                    _drain(answer)
                return result
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

    def let_go(self) -> None:
        """See Channel."""
        pool: httpcore.ConnectionPool | None = getattr(self._own, "pool", None)
        if pool is not None:
            pool.close()
            del self._own.pool

    def _pool(self) -> httpcore.ConnectionPool:
        if not hasattr(self._own, "pool"):
            self._own.pool = httpcore.ConnectionPool(
                ssl_context=self._ssl_context,
                max_connections=1,
                keepalive_expiry=30.0,
                network_backend=_Guarded(self._left_s, allow_private=self._allow_private),
            )
        return self._own.pool

    def _left_s(self) -> float:
        return self._own.due - monotonic()


def _header(answer: httpcore.Response, name: bytes) -> bytes | None:
    return next((value for found, value in answer.headers if found.lower() == name), None)


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


def retry_after_s(said: bytes | None, now: datetime) -> float | None:
    """Read `Retry-After`, in seconds or as a date; None for none that can be read."""
    if said is None:
        return None
    text = said.decode("latin-1").strip()
    try:
        seconds = float(text) if text.isdigit() else _until(text, now)
    except (ValueError, OverflowError):
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
        each_s = CONNECT_TIMEOUT_S / len(addresses)
        for address in addresses[:-1]:
            with suppress(httpcore.ConnectError, httpcore.ConnectTimeout):
                return self._connect(address, port, each_s, socket_options)
        return self._connect(addresses[-1], port, each_s, socket_options)

    def _connect(
        self,
        address: str,
        port: int,
        timeout_s: float,
        options: Iterable[httpcore.SOCKET_OPTION] | None,
    ) -> httpcore.NetworkStream:
        stream = self._inner.connect_tcp(address, port, timeout_s, None, options)
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
        elif ip not in _INTERNET or any(ip in net for net in _SET_ASIDE):
            return False
    return ip.is_global and not ip.is_multicast


def _said(error: Exception) -> str:
    return str(error) or type(error).__name__
