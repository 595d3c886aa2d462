"""API keys by themselves: how they are written, found, and how many orders each may place."""

from typing import Any

import pytest

from orderstream.contract.errors import ConfigurationError, Malformed
from orderstream.runtime.keys import Caller, Keys, new_key, parse_keys
from orderstream.runtime.settings import Settings

KEY, ENTRY = new_key("shop", "client")
HASH = "a" * 64


def faults(**given: str) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        Settings.load(given)
    return list(caught.value.faults)


class TestAKey:
    def test_is_random_and_long_and_is_not_in_its_entry(self) -> None:
        other, _ = new_key("shop", "client")
        assert other != KEY
        assert len(KEY) >= 43
        assert KEY not in str(ENTRY)
        assert parse_keys(str(ENTRY)) == [ENTRY]

    @pytest.mark.parametrize("name", ["", "a b", "a:b", "a,b", "x" * 65, "\n", "ä"])
    def test_has_a_name_that_can_be_written(self, name: str) -> None:
        with pytest.raises(Malformed):
            new_key(name, "client")

    @pytest.mark.parametrize(
        "headers",
        [
            [(b"authorization", b"Bearer " + KEY.encode())],
            [(b"authorization", b"bearer  " + KEY.encode() + b" ")],
            [(b"x-api-key", KEY.encode())],
            [(b"authorization", b"Basic abc"), (b"x-api-key", KEY.encode())],
            [(b"x-api-key", b"wrong"), (b"x-api-key", KEY.encode())],
            [(b"authorization", b"Basic abc"), (b"authorization", b"Bearer " + KEY.encode())],
        ],
    )
    def test_is_found_in_either_header(self, headers: list[tuple[bytes, bytes]]) -> None:
        assert Keys([ENTRY]).caller(headers) == Caller("shop", "client")

    @pytest.mark.parametrize(
        "headers",
        [
            [],
            [(b"authorization", b"")],
            [(b"authorization", b"Basic " + KEY.encode())],
            [(b"authorization", b"Bearer " + KEY.encode()[:-1])],
            [(b"x-api-key", KEY.lower().encode())],
            [(b"x-api-key", ENTRY.digest.hex().encode())],
            [(b"x-api-key", b"\xff\x00")],
            [(b"x-api-key", b"wrong"), (b"authorization", b"Bearer " + KEY.encode())],
            [(b"x-api-key", KEY.encode()), (b"x-api-key", b"wrong")],
            [(b"authorization", b"Bearer " + KEY.encode()), (b"authorization", b"Basic abc")],
        ],
    )
    def test_is_nothing_less_than_the_key(self, headers: list[tuple[bytes, bytes]]) -> None:
        assert Keys([ENTRY]).caller(headers) is None

    def test_can_be_replaced_while_both_are_good(self) -> None:
        newer, entry = new_key("shop", "client")
        keys = Keys(parse_keys(f"{ENTRY}, {entry}"))
        for key in (KEY, newer):
            assert keys.caller([(b"x-api-key", key.encode())]) == Caller("shop", "client")


class TestTheSetting:
    @pytest.mark.parametrize(
        "value",
        [  # Some of them with a key where something else belongs.
            "shop",
            "shop:client",
            f"shop:client:{HASH},",
            f"shop:client:{HASH[1:]}",
            f"shop:client:{HASH}:more",
            f":client:{HASH}",
            f"shop:root:{HASH}",
            f"shop:client:{HASH},shop:operator:{'b' * 64}",
            f"shop:client:{HASH},desk:operator:{HASH}",
            KEY,
            f"shop:client:{KEY}",
            f"{KEY}:client:{HASH}",
            f"{KEY}:root:{HASH}",
        ],
        ids=lambda value: value.replace(KEY, "KEY"),
    )
    def test_that_is_wrong_stops_the_start_and_is_not_repeated(self, value: str) -> None:
        (said,) = faults(ORDERSTREAM_API_KEYS=value)
        assert said.startswith("ORDERSTREAM_API_KEYS: ")
        assert HASH not in said
        assert KEY not in said

    def test_opens_the_services_to_the_network_and_only_it_does(self) -> None:
        (said,) = faults(ORDERSTREAM_HOST="0.0.0.0")
        assert "ORDERSTREAM_API_KEYS" in said
        given = {"ORDERSTREAM_HOST": "0.0.0.0", "ORDERSTREAM_API_KEYS": str(ENTRY)}
        assert Settings.load(given).address("order") == "http://127.0.0.1:8080"

    def test_a_limit_for_nobody_is_wrong(self) -> None:
        assert "per API key" in faults(ORDERSTREAM_RATE_LIMIT="10")[0]
        Settings.load({"ORDERSTREAM_RATE_LIMIT": "10", "ORDERSTREAM_API_KEYS": str(ENTRY)})


class TestTheLimit:
    @pytest.mark.parametrize(("per_s", "burst"), [(10.0, 10), (1.0, 1), (0.5, 1), (2.5, 2)])
    def test_lets_a_second_s_worth_through_at_once(self, per_s: float, burst: int) -> None:
        keys = Keys([ENTRY], per_s, lambda: 100.0)
        waits = [keys.wait_s(ENTRY.caller) for _ in range(burst + 1)]
        assert waits[:burst] == [0.0] * burst
        assert waits[burst] > 0

    def test_lets_the_next_one_through_when_it_said(self) -> None:
        now = [100.0]
        keys = Keys([ENTRY], 4.0, lambda: now[0])
        accepted = 0
        for _ in range(200):
            wait_s = keys.wait_s(ENTRY.caller)
            accepted += wait_s == 0
            now[0] += wait_s
        elapsed = now[0] - 100.0
        assert accepted == pytest.approx(4 * elapsed + 4, abs=1)

    def test_is_each_name_s_own(self) -> None:
        keys: Any = Keys([ENTRY], 1.0, lambda: 1.0)
        assert keys.wait_s(Caller("a", "client")) == 0
        assert keys.wait_s(Caller("b", "client")) == 0
        assert keys.wait_s(Caller("a", "client")) == pytest.approx(1)

    def test_not_set_is_none(self) -> None:
        keys = Keys([ENTRY])
        assert not any(keys.wait_s(ENTRY.caller) for _ in range(1000))
