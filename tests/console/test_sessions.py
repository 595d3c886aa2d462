"""Who is signed in to the console."""

import pytest

from orderstream.console.sessions import COOKIE, LASTS_S, SESSIONS_MAX, Sessions
from orderstream.runtime.keys import Keys, new_key

KEY, ENTRY = new_key("boss", "operator")
NOBODYS, _ = new_key("boss", "operator")


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sessions(clock: Clock) -> Sessions:
    return Sessions(Keys([ENTRY]), clock)


def signed_in(sessions: Sessions) -> list[tuple[bytes, bytes]]:
    found = sessions.sign_in(KEY)
    assert found is not None
    return [(b"cookie", f"theme=dark; {COOKIE}={found[0]}".encode())]


class TestASession:
    def test_stands_for_the_key_that_it_began_with(self, sessions: Sessions) -> None:
        headers = signed_in(sessions)
        caller = sessions.caller(headers)
        assert caller is not None
        assert (caller.name, caller.role, sessions.key(headers)) == ("boss", "operator", KEY)

    def test_is_not_given_for_a_key_of_nobody(self, sessions: Sessions) -> None:
        assert sessions.sign_in(NOBODYS) is None

    def test_ends_with_time(self, sessions: Sessions, clock: Clock) -> None:
        headers = signed_in(sessions)
        clock.now = LASTS_S
        assert (sessions.caller(headers), sessions.key(headers)) == (None, None)
        assert sessions.any_key() is None

    def test_ends_when_its_owner_signs_out(self, sessions: Sessions) -> None:
        headers = signed_in(sessions)
        other = signed_in(sessions)
        sessions.sign_out(headers)
        assert sessions.caller(headers) is None
        assert sessions.caller(other) is not None

    def test_gives_way_when_there_are_too_many(self, sessions: Sessions) -> None:
        first = signed_in(sessions)
        last = [signed_in(sessions) for _ in range(SESSIONS_MAX)][-1]
        assert sessions.caller(first) is None
        assert sessions.caller(last) is not None

    @pytest.mark.parametrize("cookie", [b"", b"=;;", b"a=b", b"\xff\xfe", COOKIE.encode() + b"="])
    def test_is_nobodys_with_another_cookie(self, sessions: Sessions, cookie: bytes) -> None:
        signed_in(sessions)
        assert sessions.caller([(b"cookie", cookie)]) is None


@pytest.mark.parametrize("other", ['a={"x":1}', "a=b c", "bad name=1", "a", "=x"])
def test_the_cookies_of_other_programs_take_nothing_away(sessions: Sessions, other: str) -> None:
    ((name, cookie),) = signed_in(sessions)
    both = f"{other}; ".encode() + cookie + f"; {other}".encode()
    assert sessions.caller([(name, both)]) is not None


def test_a_client_gets_no_session() -> None:
    key, entry = new_key("shop", "client")
    assert Sessions(Keys([entry])).sign_in(key) == ("", entry.caller)


def test_a_key_in_a_header_will_do_as_for_every_service(sessions: Sessions) -> None:
    caller = sessions.caller([(b"x-api-key", KEY.encode())])
    assert caller is not None
    assert caller.name == "boss"
