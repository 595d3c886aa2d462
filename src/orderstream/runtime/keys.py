"""API keys: who a request comes from, what its role may do, and how many orders it may place.

A key is 256 random bits, so that its SHA-256 is as good as the key is: there is nothing to guess,
and so nothing that a slow hash would slow down; it would only make every request dear. What
`ORDERSTREAM_API_KEYS` holds lets nobody in.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from hmac import compare_digest
from secrets import token_urlsafe
from time import monotonic
from typing import Literal, get_args

from orderstream.contract.errors import Malformed

Role = Literal["client", "viewer", "operator"]
ROLES: tuple[Role, ...] = get_args(Role)

KEY_PREFIX = "orderstream_"  # By this, scanners for leaked secrets find one in a repository.
KEY_BYTES = 32
FOUND_BY = 8  # Bytes of the hash that a key is looked up by; all of them are then compared.

# Asked by what keeps services running, and by browsers before a person can give a key.
OPEN = frozenset(
    {"/healthz", "/readyz", "/metrics", "/docs", "/docs/oauth2-redirect", "/openapi.json"}
)

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_HASH = re.compile(r"[0-9a-fA-F]{64}")

Headers = Iterable[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose key a request came with."""

    name: str
    role: Role

    @property
    def owner(self) -> str | None:
        """Whose orders alone the caller may see and change; None: everybody's."""
        return self.name if self.role == "client" else None


@dataclass(frozen=True, slots=True)
class Entry:
    """One `name:role:hash`; a name may have several while a key is replaced by another."""

    caller: Caller
    digest: bytes

    def __str__(self) -> str:
        return f"{self.caller.name}:{self.caller.role}:{self.digest.hex()}"


def new_key(name: str, role: Role) -> tuple[str, Entry]:
    """Return a new key, and what to put into ORDERSTREAM_API_KEYS for it. Raises Malformed."""
    if not _NAME.fullmatch(name):
        raise Malformed("a key's name has 1 to 64 letters, digits, `.`, `_` or `-`")
    key = KEY_PREFIX + token_urlsafe(KEY_BYTES)
    return key, Entry(Caller(name, role), sha256(key.encode()).digest())


def parse_keys(text: str) -> list[Entry]:
    """Read `name:role:hash,...`. Raises Malformed, which repeats no hash: it may be a key."""
    entries = [_entry(part.strip(), at) for at, part in enumerate(text.split(","), 1)]
    roles: dict[str, Role] = {}
    for entry in entries:
        name, role = entry.caller.name, entry.caller.role
        if roles.setdefault(name, role) != role:
            raise Malformed(f"{name} has two roles, {roles[name]} and {role}")
    if len({entry.digest[:FOUND_BY] for entry in entries}) < len(entries):
        raise Malformed("two entries have the same hash: make a key for each")
    return entries


def _entry(text: str, number: int) -> Entry:
    name, _, rest = text.partition(":")
    role, _, digest = rest.partition(":")
    # A key in the wrong place is neither shown nor taken for a name.
    if text.count(":") != 2 or not _NAME.fullmatch(name) or name.startswith(KEY_PREFIX):
        raise Malformed(f"entry {number} is not `name:role:hash`; `orderstream keys new` makes one")
    if role not in ROLES:
        raise Malformed(f"{name} needs one of the roles {', '.join(ROLES)}")
    if not _HASH.fullmatch(digest):
        raise Malformed(f"what {name} has is no SHA-256 in hex; `orderstream keys new` makes one")
    return Entry(Caller(name, role), bytes.fromhex(digest))


def key_in(headers: Headers) -> str | None:
    """Return the key in `X-API-Key`, or else in `Authorization: Bearer`; None without one.

    Of a header that comes twice, the last counts, as for every other.
    """
    last = dict(headers)
    given, authorization = last.get(b"x-api-key"), last.get(b"authorization", b"")
    if given is None and authorization[:7].lower() == b"bearer ":
        given = authorization[7:]
    return None if given is None else given.strip().decode("latin-1")


class Keys:
    """Finds a request's caller, and counts the orders of each; for one event loop."""

    def __init__(
        self,
        entries: Sequence[Entry],
        orders_per_s: float | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._entries = {entry.digest[:FOUND_BY]: entry for entry in entries}
        self._clock = clock
        self._each_s = 0.0 if orders_per_s is None else 1 / orders_per_s
        # A second's worth may come at once; one order always may.
        self._ahead_s = max(0.0, 1.0 - self._each_s)
        self._paid_until: dict[str, float] = {}  # By name.

    def caller(self, headers: Headers) -> Caller | None:
        """Return whose key stands in `Authorization: Bearer` or `X-API-Key`, or None."""
        digest = sha256((key_in(headers) or "").encode("latin-1")).digest()
        entry = self._entries.get(digest[:FOUND_BY])
        if entry is None or not compare_digest(entry.digest, digest):
            return None
        return entry.caller

    def is_open(self, path: str) -> bool:
        """Return whether a path takes no key."""
        return path in OPEN

    def wait_s(self, caller: Caller) -> float:
        """Take one order from what the caller may place; else the seconds until there is one.

        A token bucket, kept as the time until which what was taken is paid for.
        """
        if not self._each_s:
            return 0.0
        now = self._clock()
        paid_until = max(self._paid_until.get(caller.name, now), now)
        early_s = paid_until - now - self._ahead_s
        if early_s > 1e-9:
            return early_s
        self._paid_until[caller.name] = paid_until + self._each_s
        return 0.0
