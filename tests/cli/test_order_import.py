"""`order import`: a file is sent, and its answers are told apart, read to their true end."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest
from typer.testing import CliRunner, Result

from orderstream.cli.order_import import orders
from tests.bulk import body_of
from tests.routes.test_bulk import ORDER, Served


@pytest.fixture
def served() -> Iterator[Served]:
    served = Served(None)
    yield served
    served.end()


def run(url: str, *words: str, stdin: bytes = b"") -> Result:
    env = {"ORDERSTREAM_PORT_ORDER": url.rpartition(":")[2]}
    return CliRunner().invoke(orders, ["import", *words], input=stdin, env=env)


class TestImport:
    def test_of_good_orders_is_said_in_one_line(self, served: Served, tmp_path: Path) -> None:
        file = tmp_path / "orders.ndjson"
        file.write_bytes(body_of([ORDER] * 2_000))
        done = run(served.url, str(file))
        assert (done.exit_code, done.stdout) == (0, "2,000 accepted; 0 not accepted\n")

    def test_names_the_lines_that_were_not_accepted(self, served: Served) -> None:
        done = run(served.url, "-", stdin=body_of([ORDER, {"userId": 1}, ORDER]))
        assert done.exit_code == 1
        first, last = done.stdout.splitlines()
        assert first.startswith("line 2: 422 the order names no goods")
        assert last == "2 accepted; 1 not accepted"

    def test_gives_every_answer_as_json(self, served: Served) -> None:
        done = run(served.url, "-", "--json", stdin=body_of([ORDER] * 3))
        assert done.exit_code == 0
        assert [json.loads(line)["line"] for line in done.stdout.splitlines()] == [1, 2, 3]

    def test_of_no_file_or_no_service_says_so(self, served: Served, tmp_path: Path) -> None:
        assert run(served.url, str(tmp_path / "none")).exit_code == 2
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
        done = run(f"http://127.0.0.1:{port}", "-")
        assert done.exit_code != 0
        assert "does not answer" in str(done.exception)

    def test_says_when_the_answer_is_cut_short(self) -> None:
        answer = b'{"line":1,"status":202,"orderId":1,"orderStatus":"PENDING"}\n'

        def serve(listening: socket.socket) -> None:
            client, _ = listening.accept()
            with client:
                client.recv(1 << 16)
                head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
                client.sendall(head + b"%x\r\n%b\r\n" % (len(answer), answer))

        with socket.create_server(("127.0.0.1", 0)) as listening:
            serving = Thread(target=serve, args=(listening,))
            serving.start()
            port = listening.getsockname()[1]
            done = run(f"http://127.0.0.1:{port}", "-", stdin=body_of([ORDER] * 2))
            serving.join()
        assert done.exit_code != 0
        assert "broke off after 1 answers" in str(done.exception)
