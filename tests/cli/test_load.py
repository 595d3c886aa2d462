"""`load`: what is sent, what counts as accepted, and from when latency counts."""

import asyncio
import socket
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orderstream.cli.load_engine import Engine
from orderstream.cli.load_http import post_request
from orderstream.cli.load_plan import Plan, Tally
from orderstream.contract.errors import Unavailable
from tests.cli.load_server import (
    Reply,
    Script,
    Seen,
    Server,
    accepted,
    answer,
    server,
    try_again,
)

CUT = Reply(end=True)  # The connection ends with the order in flight.


def plan_for(to: Server, skus: int = 1, **more: Any) -> Plan:
    """Return a plan of orders, each of one of so many SKUs."""
    orders = [{"userId": n, "items": [{"sku": f"S{n}", "qty": 1}]} for n in range(skus)]
    requests = [post_request("test", "/api/orders", msgspec.json.encode(o)) for o in orders]
    return replace(Plan("127.0.0.1", to.port, requests, connections=4), **more)


def run(plan: Plan, on_accepted: Callable[[bytes, float], None] | None = None) -> Tally:
    return asyncio.run(Engine(plan, on_accepted).run())


def load(script: Script, **plan: Any) -> tuple[Tally, list[Seen]]:
    """Carry out a plan against a server with this script."""
    with server(script) as to:
        return run(plan_for(to, **plan)), to.seen


def scripted(replies: Sequence[Reply], after: Script = accepted) -> Script:
    """Return a script with these replies first."""
    return lambda seen: replies[seen.number] if seen.number < len(replies) else after(seen)


class TestAccepted:
    def test_counts_each_order_once_and_orders_each_sku_as_often(self) -> None:
        tally, seen = load(accepted, orders=300, skus=10)
        assert (tally.accepted, tally.unplaced, tally.statuses) == (300, 0, {202: 300})
        assert Counter(s.order["items"][0]["sku"] for s in seen) == {f"S{n}": 30 for n in range(10)}
        assert {s.line for s in seen} == {"POST /api/orders HTTP/1.1"}

    def test_by_timetable_too(self) -> None:
        tally, seen = load(accepted, orders=200, rate=1000.0)
        assert (tally.accepted, tally.unplaced, len(seen)) == (200, 0, 200)
        assert seen[-1].at - tally.began >= 0.199

    def test_a_server_that_ends_each_connection_with_its_answer_gets_new_ones(self) -> None:
        reply = answer(202, {"orderId": 1}, "Connection: close", end=True)
        tally, _ = load(lambda _: reply, orders=20)
        assert (tally.accepted, tally.unplaced) == (20, 0)

    def test_tells_each_answer(self) -> None:
        told: list[int] = []
        with server() as to:
            run(
                plan_for(to, orders=20),
                lambda body, _: told.append(msgspec.json.decode(body)["orderId"]),
            )
        assert sorted(told) == list(range(20))


class TestRetryAfter:
    def test_is_waited_for_and_the_order_sent_again_under_the_id_of_the_problem(self) -> None:
        tally, (first, second) = load(scripted([try_again(1, orderId=77)]), orders=1)
        assert second.at - first.at >= 1.0
        assert second.order == {**first.order, "orderId": 77}
        assert (tally.accepted, tally.retries, tally.unplaced) == (1, 1, 0)
        assert tally.statuses == {503: 1, 202: 1}

    def test_counts_as_latency_but_not_in_the_accepted_try(self) -> None:
        tally, _ = load(scripted([try_again(1)]), orders=1)
        assert tally.from_schedule.max_us >= 1_000_000
        assert tally.from_sending.max_us < 1_000_000

    def test_does_not_hold_up_a_timetable(self) -> None:
        script = scripted([try_again(1)])
        tally, seen = load(script, orders=100, rate=200.0, connections=1)
        retried = seen[-1].at - seen[0].at
        assert (tally.accepted, tally.unplaced, len(seen)) == (100, 0, 101)
        assert seen[-2].at - seen[0].at < retried

    def test_of_more_orders_than_may_wait_gives_up_the_rest(self) -> None:
        script = scripted([try_again(1)] * 8)
        tally, _ = load(script, orders=8, rate=1000.0, connections=8, waiting_max=3)
        assert (tally.accepted, tally.given_up, tally.retries) == (3, 5, 3)

    def test_without_it_a_503_is_a_refusal(self) -> None:
        tally, seen = load(scripted([answer(503, {"detail": "away"})]), orders=3)
        assert (tally.accepted, tally.refused, len(seen)) == (2, 1, 3)


class TestNotAccepted:
    def test_a_refusal_is_not_repeated_and_the_first_is_told(self) -> None:
        tally, seen = load(scripted([answer(422, {"detail": "qty: too many"})]), orders=10)
        assert (tally.accepted, tally.refused, tally.unplaced, len(seen)) == (9, 1, 1, 10)
        assert tally.trouble == '422 {"detail": "qty: too many"}'

    @pytest.mark.parametrize(
        "reply",
        [
            CUT,
            Reply(b"HTTP/1.1 202 Accepted\r\nContent-Length: 40\r\n\r\n{", end=True),
            Reply(b"HTTP/1.1 202 Accepted\r\n", end=True),
            Reply(b"not HTTP at all\r\n\r\n"),
            Reply(b"HTTP/1.1 202 Accepted\r\nContent-Length: 1\r\n\r\n{}"),
        ],
        ids=["no answer", "half a body", "half a head", "no HTTP", "too much"],
    )
    def test_a_connection_lost_in_flight_is_unknown_never_accepted(self, reply: Reply) -> None:
        tally, seen = load(scripted([reply]), orders=10)
        assert (tally.accepted, tally.unknown, tally.unplaced) == (9, 1, 1)
        assert (tally.connections_lost, len(seen)) == (1, 10)
        assert tally.trouble

    def test_nobody_there_is_said_at_once(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            nobody = Server(probe.getsockname()[1])
        with pytest.raises(Unavailable, match=f"127.0.0.1:{nobody.port} does not take 4 conn"):
            run(plan_for(nobody, orders=1))

    def test_a_server_that_accepts_nothing_is_given_up(self) -> None:
        tally, _ = load(lambda _: try_again(), orders=50, stall_s=0.1)
        assert (tally.accepted, tally.unplaced) == (0, 50)
        assert "no order was accepted for 0.1 s" in tally.trouble

    @settings(max_examples=30, deadline=None)
    @given(
        st.lists(
            st.sampled_from(
                [
                    CUT,
                    try_again(),
                    answer(422, {}),
                    answer(202, {}),
                    answer(202, {}, "Connection: close", end=True),
                    Reply(b"HTTP/1.1 202 Accepted\r\nContent-Length: 9\r\n\r\n", end=True),
                ]
            ),
            max_size=30,
        ),
        st.sampled_from([None, 5000.0]),
    )
    def test_whatever_happens_each_order_counts_once(
        self, replies: list[Reply], rate: float | None
    ) -> None:
        tally, seen = load(scripted(replies, lambda _: answer(202, {})), orders=20, rate=rate)
        assert tally.accepted + tally.unplaced == 20
        given = [*replies, *[answer(202, {})] * len(seen)][: len(seen)]
        assert tally.accepted == sum(r.data.endswith(b"{}") and b" 202 " in r.data for r in given)


class TestOpenLoop:
    def test_a_stall_shows_in_every_order_whose_time_it_was(self) -> None:
        def stalls(seen: Seen) -> Reply:
            return replace(accepted(seen), after_s=0.3) if seen.number == 10 else accepted(seen)

        tally, _ = load(stalls, orders=100, rate=200.0, connections=1)
        planned, sent = tally.from_schedule, tally.from_sending
        assert tally.accepted == 100
        assert planned.max_us >= 300_000
        assert planned.percentile_us(99) >= 280_000  # The next ones waited almost as long.
        assert planned.percentile_us(60) >= 50_000
        assert sent.max_us >= 300_000
        assert sent.percentile_us(60) < 50_000  # Which a closed loop would have told.


class TestTheEnd:
    def test_comes_after_so_many_seconds_with_all_answers_in(self) -> None:
        tally, seen = load(accepted, seconds=0.3)
        assert 0.3 <= tally.ended - tally.began + 0.05 < 2
        assert tally.accepted == len(seen) > 0
        assert tally.unplaced == 0

    def test_comes_by_timetable_too(self) -> None:
        tally, seen = load(accepted, seconds=0.3, rate=100.0)
        assert tally.accepted == len(seen)
        assert 25 <= tally.accepted + tally.unsent <= 60

    def test_comes_with_the_orders_when_these_are_fewer(self) -> None:
        tally, seen = load(accepted, seconds=60.0, orders=5)
        assert (tally.accepted, len(seen)) == (5, 5)

    def test_orders_whose_time_came_but_no_connection_are_counted(self) -> None:
        with server(lambda seen: replace(accepted(seen), after_s=0.2)) as to:
            tally = run(plan_for(to, seconds=0.1, rate=1000.0, connections=1))
        assert tally.accepted == 1
        assert tally.unsent >= 50

    def test_stopped_softly_it_waits_for_what_is_under_way(self) -> None:
        with server() as to:
            engine = Engine(plan_for(to, seconds=60.0), lambda *_: engine.stop())
            tally = asyncio.run(engine.run())
        assert tally.accepted == len(to.seen) > 0
        assert tally.unplaced == 0

    def test_broken_off_what_is_under_way_is_unknown(self) -> None:
        asked: list[Seen] = []

        async def main(to: Server) -> Tally:
            engine, loop = Engine(plan_for(to, orders=10)), asyncio.get_running_loop()
            break_off.append(lambda: loop.call_soon_threadsafe(engine.break_off))
            return await engine.run()

        def silent(seen: Seen) -> Reply:
            asked.append(seen)
            if len(asked) == 4:
                break_off[0]()
            return Reply()

        break_off: list[Callable[[], object]] = []
        with server(silent) as to:
            tally = asyncio.run(main(to))
        assert (tally.accepted, tally.unknown, tally.unsent) == (0, 4, 6)
