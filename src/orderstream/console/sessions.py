"""Who is signed in to the console: a cookie for an API key, which the browser never sees again.

Sessions live in this process: whoever was signed in signs in again after a restart.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from secrets import token_urlsafe
from time import monotonic

from orderstream.runtime.keys import Caller, Keys, key_in

COOKIE = "orderstream_session"
LASTS_S = 12 * 3600
SESSIONS_MAX = 1_000  # The oldest gives way.
_ID_BYTES = 32

# What the page needs before anybody is signed in. None of it tells anything of the shop.
OPEN_PATHS = frozenset({"/", "/favicon.ico", "/console/session"})


@dataclass(frozen=True)
class Session:
    """One browser that is signed in, and the key that it acts with."""

    caller: Caller
    key: str
    until: float


class Sessions:
    """Finds who a request comes from, by cookie or by key; for one event loop."""

    def __init__(self, keys: Keys, clock: Callable[[], float] = monotonic) -> None:
        self._keys = keys
        self._clock = clock
        self._sessions: dict[str, Session] = {}

    def is_open(self, path: str) -> bool:
        """Return whether a path is for everybody."""
        return path in OPEN_PATHS or path.startswith("/static/") or self._keys.is_open(path)

    def sign_in(self, key: str) -> tuple[str, Caller] | None:
        """Return the new session's id and whose the key is; None when it is nobody's."""
        caller = self._keys.caller([(b"x-api-key", key.encode())])
        if caller is None:
            return None
        now = self._clock()
        self._sessions = {s: one for s, one in self._sessions.items() if one.until > now}
        while len(self._sessions) >= SESSIONS_MAX:
            del self._sessions[next(iter(self._sessions))]
        if caller.role == "client":
            return "", caller  # It has no business here.
        session_id = token_urlsafe(_ID_BYTES)
        self._sessions[session_id] = Session(caller, key, now + LASTS_S)
        return session_id, caller

    def sign_out(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """End the session that a request came with."""
        self._sessions.pop(_session_id(headers), None)

    def caller(self, headers: Iterable[tuple[bytes, bytes]]) -> Caller | None:
        """Return who is signed in, or whose key it is; None for nobody."""
        headers = list(headers)
        session = self._session(headers)
        return self._keys.caller(headers) if session is None else session.caller

    def key(self, headers: Iterable[tuple[bytes, bytes]]) -> str | None:
        """Return the key that a request's sender acts with at the services."""
        headers = list(headers)
        session = self._session(headers)
        return key_in(headers) if session is None else session.key

    def any_key(self) -> str | None:
        """Return the key of somebody who is signed in, for what everybody sees."""
        now = self._clock()
        return next((one.key for one in self._sessions.values() if one.until > now), None)

    def _session(self, headers: Iterable[tuple[bytes, bytes]]) -> Session | None:
        session = self._sessions.get(_session_id(headers))
        return None if session is None or session.until <= self._clock() else session


def _session_id(headers: Iterable[tuple[bytes, bytes]]) -> str:
    # By hand: cookies are shared by all ports of a host, and SimpleCookie drops ours with any
    # other program's that it does not understand.
    for name, value in headers:
        if name == b"cookie":
            for part in value.decode("latin-1").split(";"):
                key, _, said = part.strip().partition("=")
                if key == COOKIE:
                    return said
    return ""
