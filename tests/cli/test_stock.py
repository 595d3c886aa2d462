"""`stock`: which SKU is asked for, whatever its characters."""

from collections.abc import Generator
from contextlib import contextmanager

import httpx
import pytest
from typer.testing import CliRunner

from orderstream.cli import stock
from orderstream.cli.app import app
from orderstream.cli.output import Api
from tests.cli.test_output import an_api


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is asked of the inventory service, as `METHOD path`."""
    requests: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        requests.append(f"{request.method} {request.url.raw_path.decode()}")
        level = {"sku": "x", "onHand": 1, "reserved": 0, "available": 1}
        return httpx.Response(200, json=level)

    @contextmanager
    def api_of(*_: object) -> Generator[Api]:
        yield an_api(answer)

    monkeypatch.setattr(stock, "api_of", api_of)
    return requests


@pytest.mark.parametrize(
    ("sku", "path"),
    [
        ("a/b c", "a%2Fb%20c"),
        ("a?b#c", "a%3Fb%23c"),
        ("100%", "100%25"),
        ("a%2Fb", "a%252Fb"),
        ("x/adjust", "x%2Fadjust"),
        ("é", "%C3%A9"),
        ("..", "%2E%2E"),
        ("v1.2", "v1.2"),
    ],
)
class TestPath:
    @pytest.mark.parametrize(
        ("words", "more", "request_of"),
        [
            ("get", (), "GET /api/stock/{}"),
            ("set", ("5",), "PUT /api/stock/{}"),
            ("adjust", ("-2",), "POST /api/stock/{}/adjust"),
        ],
    )
    def test_a_sku_is_one_part_of_it(
        self,
        words: str,
        more: tuple[str, ...],
        request_of: str,
        sku: str,
        path: str,
        asked: list[str],
    ) -> None:
        result = CliRunner().invoke(app, ["stock", words, sku, *more])
        assert result.exit_code == 0
        assert asked == [request_of.format(path)]
