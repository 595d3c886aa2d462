"""Requests made from a service's own OpenAPI document: right ones, wrong ones, many of each."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from hypothesis.strategies import SearchStrategy
from schemathesis import Case, GenerationMode
from schemathesis.core.result import Ok
from schemathesis.generation.hypothesis.examples import generate_one
from schemathesis.specs.openapi import checks

CHECKS = [
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
]
MODES = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
REFUSED = {400, 422}
Seen = dict[str, set[int]]


@schemathesis.serializer("application/x-ndjson")
def _lines(_context: Any, value: Any) -> bytes:
    """Send text as it is."""
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")


def fuzz(url: str, examples: int, fewer: Callable[[str], int] = lambda _: 1) -> Seen:
    """Send so many requests of either kind to each operation; return the statuses by operation.

    The document's own examples come first. `fewer` says, for an operation's path, how many times
    fewer it is to get.

    AssertionError where an example is refused, or an answer is a 5xx other than 503 or not what
    the document says.
    """
    seen: Seen = {}
    with requests.Session() as session:
        session.trust_env = False
        document = session.get(f"{url}/openapi.json", timeout=10).json()
        for result in schemathesis.openapi.from_dict(document).get_all_operations():
            assert isinstance(result, Ok), result
            operation = result.ok()
            name = f"{operation.method.upper()} {operation.path}"
            number = examples // fewer(operation.path)
            found = seen.setdefault(name, set())
            for example in operation.get_strategies_from_examples(headers={}):
                case = generate_one(example)
                found.add(ask(case, url, session))
                assert not found & REFUSED, f"{name} refuses an example: {case.body!r}"
            for mode in MODES:
                case = operation.as_strategy(generation_mode=mode)
                _try(case, number, lambda case, found=found: found.add(ask(case, url, session)))
    return seen


def _try(cases: SearchStrategy[Case], examples: int, one: Callable[[Case], None]) -> None:
    @seed(4)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )
    @given(cases)
    def every(case: Case) -> None:
        one(case)

    with suppress(Unsatisfiable):  # An operation without parameters cannot be asked wrongly.
        every()


def ask(case: Case, url: str, session: requests.Session) -> int:
    """Send one request, check the answer, return its status."""
    request = case.as_transport_kwargs(base_url=url)
    answer = session.request(**request, timeout=30, stream=True)
    with answer:
        assert answer.status_code < 500 or answer.status_code == 503, (answer.text, request)
        if answer.headers["content-type"].startswith("text/event-stream"):
            assert answer.status_code == 200  # It has no end.
        else:
            case.validate_response(answer, checks=CHECKS)
    return answer.status_code
