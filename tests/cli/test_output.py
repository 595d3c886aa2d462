"""What the command prints, and how a service's refusals and silences are said."""

import json
from collections.abc import Callable, Iterator
from itertools import count

import httpx
import msgspec
import pytest

from orderstream.cli import output
from orderstream.cli.output import Api, Refused
from orderstream.contract.errors import OutcomeUnknown, Unavailable

ADDRESS = "http://127.0.0.1:8080"


def an_api(answer: Callable[[httpx.Request], httpx.Response]) -> Api:
    """Return the order service's API with this answer to everything."""
    client = httpx.Client(base_url=ADDRESS, transport=httpx.MockTransport(answer))
    return Api("order", client)


class TestTables:
    def test_columns_are_aligned_and_numbers_end_below_one_another(self) -> None:
        lines = list(output.aligned(("sku", "on hand"), [("MUG", 5), ("T-SHIRT", 1200)]))
        assert lines == ["sku      on hand", "MUG            5", "T-SHIRT     1200"]

    def test_nothing_found_is_a_heading_alone(self) -> None:
        assert list(output.aligned(("sku", "on hand"), [])) == ["sku  on hand"]

    def test_rows_come_before_all_of_them_are_known(self) -> None:
        seen: list[int] = []

        def endless() -> Iterator[tuple[str, int]]:
            for number in count():
                seen.append(number)
                yield ("MUG", number)

        assert next(output.aligned(("sku", "n"), endless())).startswith("sku")
        assert len(seen) <= output.TABLE_ROWS_MAX

    def test_a_cell_without_a_value_is_empty(self) -> None:
        assert list(output.aligned(("a", "b"), [(None, "x")])) == ["a  b", "   x"]

    def test_a_piped_table_is_plain_text(self, capsys: pytest.CaptureFixture[str]) -> None:
        output.print_table(("order", "status"), [("1001", "CONFIRMED")])
        assert capsys.readouterr().out == "order  status\n1001   CONFIRMED\n"

    def test_facts_without_a_value_are_left_out(self, capsys: pytest.CaptureFixture[str]) -> None:
        output.print_facts([("order", 1), ("reason", None), ("user", "u1")])
        assert capsys.readouterr().out == "order  1\nuser   u1\n"


class TestPrintable:
    @pytest.mark.parametrize(
        ("value", "shown"),
        [
            ("plain Ünïcödé", "plain Ünïcödé"),
            ("\x1b[31mred", "\\x1b[31mred"),
            ("two\nlines", "two\\nlines"),
            ("turned\u202earound", "turned\\u202earound"),
            (None, ""),
            (5, "5"),
        ],
    )
    def test_foreign_text_cannot_drive_the_terminal(self, value: object, shown: str) -> None:
        assert output.printable(value) == shown


class TestJson:
    def test_one_thing_is_one_document(self, capsys: pytest.CaptureFixture[str]) -> None:
        output.print_json({"orderId": 1})
        assert capsys.readouterr().out == '{"orderId":1}\n'

    def test_a_list_is_a_document_a_line(self, capsys: pytest.CaptureFixture[str]) -> None:
        output.print_json_lines([{"a": 1}, {"a": 2}])
        assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [
            {"a": 1},
            {"a": 2},
        ]


class TestProblemSentence:
    def test_says_the_detail(self) -> None:
        assert output.problem_sentence(b'{"title":"T","detail":"Do this."}') == "Do this."

    def test_names_the_field_unless_the_detail_does(self) -> None:
        named = b'{"detail":"qty must be at least 1","field":"qty"}'
        unnamed = b'{"detail":"must be at least 1","field":"items[0].qty"}'
        assert output.problem_sentence(named) == "qty must be at least 1"
        assert output.problem_sentence(unnamed) == "items[0].qty: must be at least 1"

    def test_names_the_order_that_may_have_been_accepted(self) -> None:
        said = output.problem_sentence(b'{"detail":"Send it again.","orderId":1001}')
        assert said == "Send it again. (orderId 1001)"

    def test_stays_on_one_line(self) -> None:
        assert "\n" not in output.problem_sentence(b'{"detail":"two\\nlines"}')

    @pytest.mark.parametrize("body", [b"<html>", b"[]", b"{}", b""])
    def test_refuses_what_is_no_problem_document(self, body: bytes) -> None:
        with pytest.raises(msgspec.DecodeError):
            output.problem_sentence(body)


class TestApi:
    def test_a_refusal_is_its_sentence_and_status(self) -> None:
        api = an_api(lambda _: httpx.Response(404, json={"detail": "There is no order 5."}))
        with pytest.raises(Refused, match=r"^There is no order 5\.$") as refused:
            api.get("/api/orders/5")
        assert refused.value.status == 404

    def test_a_stranger_on_the_port_is_named(self) -> None:
        api = an_api(lambda _: httpx.Response(404, html="<p>not here"))
        with pytest.raises(Refused, match="another program may have the port"):
            api.get("/api/orders/5")

    def test_a_stranger_who_says_yes_is_named_too(self) -> None:
        api = an_api(lambda _: httpx.Response(200, html="<p>welcome"))
        with pytest.raises(Refused, match="another program may have the port"):
            api.get("/api/orders/5")

    def test_a_refused_connection_says_how_to_start_the_service(self) -> None:
        def refuse(request: httpx.Request) -> httpx.Response:
            raise httpx.ConnectError("refused", request=request)

        said = f"the order service does not answer at {ADDRESS}: start it with `orderstream up`"
        with pytest.raises(Unavailable) as away:
            an_api(refuse).get("/api/orders/5")
        assert str(away.value) == said

    @pytest.mark.parametrize("fault", [httpx.ReadTimeout, httpx.RemoteProtocolError])
    def test_a_change_that_got_no_answer_may_have_happened(
        self, fault: type[httpx.TransportError]
    ) -> None:
        def break_off(request: httpx.Request) -> httpx.Response:
            raise fault("broken", request=request)

        with pytest.raises(OutcomeUnknown, match="look before you repeat it"):
            an_api(break_off).send("POST", "/api/orders")
        with pytest.raises(Unavailable, match="orderstream doctor"):
            an_api(break_off).get("/api/orders")

    def test_parameters_without_a_value_are_left_out(self) -> None:
        api = an_api(lambda request: httpx.Response(200, json=dict(request.url.params)))
        assert api.get("/api/orders", status=None, limit=5) == {"limit": "5"}
