"""The examples of README, docs/http.md and docs/how-to.md, typed as they stand there."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.flow.installation import SERVICES, Installation, installation
from tests.flow.typed import Terminals, with_command
from tests.test_documented import DOCS, TOP, code_blocks
from tests.waiting import until

PORTS = {"order": "8080", "inventory": "8082", "notification": "8083", "analytics": "8084"}


@pytest.fixture(scope="module")
def running() -> Iterator[Installation]:
    with installation("--quiet") as running:
        too_many = running.place({"userId": 42, "items": [{"sku": "RARE-1", "qty": 9}]})
        assert running.decided(too_many.json()["orderId"])["status"] == "REJECTED"
        yield running


def examples(path: Path) -> list[tuple[str, str]]:
    """Return every `$ curl` of a page with what it is said to print."""
    text = "\n".join(code_blocks(path.read_text("utf-8"), "console"))
    found = [block.partition("\n") for block in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]]
    return [(line, printed) for line, _, printed in found if "curl " in line]


def typed(running: Installation, line: str) -> str:
    """Type a line into a shell, with this installation's ports; return what it prints."""
    for service, port in PORTS.items():
        line = line.replace(f"127.0.0.1:{port}", running.url(service).removeprefix("http://"))
    return subprocess.run(
        ["sh", "-c", line], capture_output=True, text=True, timeout=30, check=True
    ).stdout


def shape(answer: Any) -> Any:
    """Return an answer with its values left out: the fields of objects, and of a list's first."""
    match answer:
        case dict():
            return {name: shape(value) for name, value in answer.items()}
        case [first, *_]:
            return [shape(first)]
        case _:
            return None


def shapes(text: str) -> list[Any]:
    """Return the shape of each JSON value of a text, one behind the other."""
    found: list[Any] = []
    while text := text.strip():
        value, end = json.JSONDecoder().raw_decode(text)
        found.append(shape(value))
        text = text[end:]
    return found


def test_every_recipe_prints_what_is_written_below_it(
    running: Installation, tmp_path: Path
) -> None:
    """First, for its numbers are those of an installation on which nothing was done before."""
    Terminals(tmp_path, with_command(running.env)).work_through(DOCS / "how-to.md")


@pytest.mark.skipif(shutil.which("curl") is None, reason="the examples are curl's")
@pytest.mark.parametrize("path", [TOP / "README.md", DOCS / "http.md"], ids=lambda p: p.name)
def test_every_curl_prints_what_is_written_below_it(path: Path, running: Installation) -> None:
    """A page is tried until it has come, as a reader would: its order was placed just before."""
    for line, printed in examples(path):
        head, _, body = printed.rpartition("\n\n{") if "curl -i" in line else ("", "", printed[1:])
        if "..." in body or not body:
            assert json.loads(typed(running, line)), line
            continue
        wanted = shapes("{" + body)

        def as_written(line: str = line, head: str = head, wanted: Any = wanted) -> bool:
            answer = typed(running, line).replace("\r", "")
            got_head, _, got_body = answer.rpartition("\n\n{") if head else ("", "", answer[1:])
            fields = {row.split(":")[0] for row in head.splitlines()}
            assert fields <= {row.split(":")[0] for row in got_head.splitlines()}
            return shapes("{" + got_body) == wanted

        until(as_written, what=line)


def test_the_pages_have_examples_of_every_service() -> None:
    lines = "".join(line for line, _ in examples(DOCS / "http.md"))
    assert {s for s in SERVICES if f":{PORTS.get(s)}/" in lines} == PORTS.keys()
