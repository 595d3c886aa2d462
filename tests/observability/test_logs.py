"""What lines look like, what is never in them, how much is said."""

import io
import json
import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from confluent_kafka import Message
from fastapi import FastAPI

from orderstream.cli.up import readable
from orderstream.contract.errors import Malformed, Unavailable
from orderstream.notification.channels import LogChannel
from orderstream.notification.rules import Notice
from orderstream.runtime.clock import utc_now
from orderstream.runtime.levels import CHANGED_MAX, logger_routes
from orderstream.runtime.log_repeats import Repeats
from orderstream.runtime.logs import WITHHELD, about, configure_logs
from orderstream.runtime.web import web_app
from tests.observability import lines
from tests.observability.lines import parsed, read, unmapped
from tests.routes.asking import ask, problem_of
from tests.waiting import until

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
NAME = "orderstream.tests"

Configure = Callable[..., io.StringIO]
log: Any = structlog.get_logger(NAME)


@pytest.fixture
def configured() -> Iterator[Configure]:
    """Configures logs for a test alone, and returns where they go."""
    before, root = structlog.get_config(), logging.getLogger()
    handlers, level = root.handlers[:], root.level

    def configure(**options: Any) -> io.StringIO:
        out = io.StringIO()
        configure_logs("inventory", "INFO", out=out, **options)
        # What is logged here once would else be logged so for good.
        structlog.configure(cache_logger_on_first_use=False)
        return out

    yield configure
    for handler in root.handlers:
        handler.close()
    root.handlers[:], root.level = handlers, level
    for name in (NAME, "orderstream", "somebody.else"):
        logging.getLogger(name).setLevel(logging.NOTSET)
    structlog.configure(**before)


class TestLine:
    def test_has_the_fields_of_ecs_each_of_which_the_template_maps(
        self, configured: Configure
    ) -> None:
        out = configured()
        log.info("set up", topics=["a", "b"], count=3)
        (line,) = read(out.getvalue())
        assert line["log.level"] == "info"
        assert line["message"] == "set up"
        assert line["service.name"] == "orderstream-inventory"
        assert line["log.logger"] == NAME
        assert line["labels"] == {"topics": "['a', 'b']", "count": "3"}

    def test_about_a_record_has_its_order_its_place_and_its_trace(
        self, configured: Configure
    ) -> None:
        out = configured()
        traced: Any = [("traceparent", f"00-{TRACE}-{SPAN}-01".encode())]
        log.warning("failed", **about(Message("t", 3, 14, b"1001", headers=traced)))
        (line,) = read(out.getvalue())
        assert line["orderstream.order_id"] == "1001"
        assert (line["kafka.topic"], line["kafka.partition"], line["kafka.offset"]) == ("t", 3, 14)
        assert (line["trace.id"], line["span.id"]) == (TRACE, SPAN)
        assert "labels" not in line

    @pytest.mark.parametrize("strange", [b"", b"00-xyz", b"\xff" * 55])
    def test_about_a_strange_record_has_what_there_is(
        self, configured: Configure, strange: bytes
    ) -> None:
        out = configured()
        record = Message("t", 0, 1, strange or None, headers=[("traceparent", strange)])
        log.warning("failed", **about(record))
        (line,) = read(out.getvalue())
        assert line["kafka.offset"] == 1
        assert "trace.id" not in line

    def test_of_a_library_is_of_the_same_form(self, configured: Configure) -> None:
        out = configured()
        logging.getLogger("somebody.else").warning("%s is %d", "it", 3)
        logging.getLogger("somebody.else").info("below the root's level")
        (line,) = read(out.getvalue())
        assert (line["message"], line["log.logger"]) == ("it is 3", "somebody.else")

    def test_of_a_notice_is_of_the_same_form(self) -> None:
        out = io.StringIO()
        record = Message("inventory.reserved", 1, 7, b"5")
        LogChannel(out).tell([Notice("5:x", "5", None, "Order 5.", record=record)], utc_now())
        line = parsed(out.getvalue())
        assert line["message"] == "Order 5."
        assert line["kafka.offset"] == 7

    def test_for_people_is_a_sentence(self, configured: Configure) -> None:
        out = configured(human=True)
        log.warning("failed", topic="t", exc_info=ValueError("ada@example.com"))
        assert "failed" in out.getvalue()
        assert "topic=t" in out.getvalue()
        assert "ValueError" in out.getvalue()
        assert "ada@" not in out.getvalue()

    def test_is_read_out_by_up(self, configured: Configure) -> None:
        out = configured()
        log.error("parked", **about(Message("t", 3, 14, b"1001")), exc_info=Malformed("no JSON"))
        said = readable(out.getvalue().strip())
        assert "ERROR parked at t[3]@14 (" in said
        assert "Malformed: no JSON) order=1001" in said


class TestTemplate:
    """A check that finds nothing would be no check."""

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("kafka.offset", "7"),
            ("kafka.group", "g"),
            ("orderstream.order_id", 7),
            ("@timestamp", "yesterday"),
            ("labels", {"tries": 3}),
            ("strange", "x"),
        ],
    )
    def test_refuses_what_is_not_mapped_or_of_another_type(self, name: str, value: Any) -> None:
        try:
            faults = unmapped({name: value})
        except ValueError:  # No date.
            faults = [name]
        assert faults

    def test_has_only_types_that_elasticsearch_has(self) -> None:
        def kinds(part: dict[str, Any]) -> Iterator[str]:
            for found in part.get("properties", {}).values():
                yield found.get("type", "object")
                yield from kinds(found)

        known = {"date", "long", "keyword", "match_only_text", "wildcard", "object"}
        assert set(kinds(lines.mappings())) <= known


def raised(error: Exception, cause: Exception | None = None) -> Exception:
    try:
        raise error from cause
    except Exception as caught:  # noqa: BLE001 - to have its traceback
        return caught


class TestPrivacy:
    def test_words_that_are_not_ours_are_not_told(self, configured: Configure) -> None:
        out = configured()
        log.error("parked", exc_info=raised(ValueError("the note of Ada"), KeyError("Lovelace")))
        (line,) = read(out.getvalue())
        assert line["error.type"] == "ValueError"
        assert line["error.message"] == WITHHELD
        assert "raise error from cause" in line["error.stack_trace"]
        assert "Ada" not in out.getvalue()
        assert "Lovelace" not in out.getvalue()

    def test_nor_when_ours_only_repeat_them(self, configured: Configure) -> None:
        out = configured()
        log.warning("again", reason=raised(Malformed("ValueError: Ada"), ValueError("Ada")))
        (line,) = read(out.getvalue())
        assert line["labels"]["reason"] == f"Malformed: {WITHHELD}"

    def test_ours_are(self, configured: Configure) -> None:
        out = configured()
        log.warning("paused", exc_info=raised(Unavailable("PostgreSQL is away"), OSError("x")))
        (line,) = read(out.getvalue())
        assert line["error.message"] == "PostgreSQL is away"

    def test_all_are_once_the_logger_is_at_debug(self, configured: Configure) -> None:
        out = configured()
        logging.getLogger(NAME).setLevel(logging.DEBUG)
        log.error("parked", exc_info=raised(ValueError("the note of Ada")))
        assert read(out.getvalue())[0]["error.message"] == "the note of Ada"

    @pytest.mark.parametrize("contact", ["ada.l+x@mail.example.com", "+49 (30) 1234-567"])
    def test_contacts_are_taken_out_wherever_they_are(
        self, configured: Configure, contact: str
    ) -> None:
        out = configured()
        log.info(f"told {contact}", whom=[contact], exc_info=raised(Malformed(f"no: {contact}")))
        logging.getLogger("somebody.else").error("sent to %s", contact)
        assert len(read(out.getvalue())) == 2
        assert contact not in out.getvalue()

    def test_an_order_keeps_its_id(self, configured: Configure) -> None:
        out = configured()
        log.info("told", order_id="ada@example.com", offset=491234567890)
        (line,) = read(out.getvalue())
        assert line["orderstream.order_id"] == "ada@example.com"
        assert line["kafka.offset"] == 491234567890


class TestRepeats:
    def test_are_counted_and_told_when_the_minute_is_over(self) -> None:
        told: list[logging.LogRecord] = []
        repeats = Repeats(3, told.append, within_s=0.3)
        passed = [repeats.filter(_record("a", f"of {n}")) for n in range(10)]
        assert passed == [True] * 3 + [False] * 7
        assert repeats.filter(_record("b", "of another"))
        (summary,) = until(lambda: told)
        said: Any = summary.msg
        assert said["event"] == "a: 7 more in 0.3 s"
        assert said["suppressed"] == 7
        assert repeats.filter(_record("a", "in the next minute"))

    def test_are_told_when_the_process_ends(self, configured: Configure) -> None:
        out = configured(repeats_max=2)
        for number in range(5):
            log.error("parked", offset=number)
        for handler in logging.getLogger().handlers:
            handler.close()
        *few, last = read(out.getvalue())
        assert [line["kafka.offset"] for line in few] == [0, 1]
        assert last["message"] == "parked: 3 more in 60 s"
        assert last["orderstream.suppressed"] == 3
        assert (last["log.level"], last["log.logger"]) == ("error", NAME)

    def test_of_everything_different_do_not_fill_the_memory(self) -> None:
        repeats = Repeats(1, lambda _: None)
        assert all(repeats.filter(_record(f"a{n}", "")) for n in range(3_000))
        assert len(vars(repeats)["_seen"]) <= 1_000

    def test_are_all_written_if_so_set(self, configured: Configure) -> None:
        out = configured(repeats_max=0)
        for _ in range(100):
            log.info("again")
        assert len(read(out.getvalue())) == 100


def _record(event: str, about: str) -> logging.LogRecord:
    return logging.makeLogRecord(
        {"name": NAME, "levelno": 40, "levelname": "ERROR", "msg": event, "args": (about,)}
    )


class TestLevels:
    @pytest.fixture
    def app(self) -> FastAPI:
        app = web_app("tests", {})
        app.include_router(logger_routes())
        return app

    def test_change_what_is_said_from_then_on(self, configured: Configure, app: FastAPI) -> None:
        out = configured()
        log.debug("not said")
        answer = ask(app, "PUT", f"/api/loggers/{NAME}", json={"level": "DEBUG"})
        assert answer.json() == {"name": NAME, "level": "DEBUG", "effective": "DEBUG"}
        log.debug("said")
        listed = ask(app, "GET", "/api/loggers").json()["loggers"]
        assert answer.json() in listed
        assert {"name": "root", "level": "WARNING", "effective": "WARNING"} in listed
        answer = ask(app, "PUT", f"/api/loggers/{NAME}", json={"level": None})
        assert answer.json() == {"name": NAME, "level": None, "effective": "INFO"}
        log.debug("not said either")
        assert [line["message"] for line in read(out.getvalue())] == ["said"]

    @pytest.mark.parametrize("level", ["LOUD", 10, ""])
    def test_are_those_that_there_are(self, app: FastAPI, level: object) -> None:
        answer = ask(app, "PUT", f"/api/loggers/{NAME}", json={"level": level})
        assert answer.status_code == 422

    def test_are_not_for_any_number_of_names(self, app: FastAPI) -> None:
        names = [f"somebody.else{n}" for n in range(CHANGED_MAX + 1)]
        try:
            answers = [
                ask(app, "PUT", f"/api/loggers/{name}", json={"level": "ERROR"}) for name in names
            ]
            assert problem_of(answers[-1]) == "too-many-loggers"
        finally:
            for name in names:
                logging.getLogger(name).setLevel(logging.NOTSET)


class TestDocumentation:
    def test_names_every_logger(self) -> None:
        top = Path(__file__).parents[2]
        page = (top / "docs" / "observability.md").read_text("utf-8")
        named = set(re.findall(r"`(orderstream\.[a-z.]+)`", page.split("| logger |")[1]))
        used = {
            name
            for path in (top / "src").rglob("*.py")
            for name in re.findall(r'[gG]et_?[lL]ogger\("(orderstream\.[a-z.]+)"', path.read_text())
        }
        assert used <= named, used - named

    def test_names_every_field(self) -> None:
        page = (lines.TEMPLATE.parents[3] / "docs" / "observability.md").read_text("utf-8")
        example = page.split("```json")[1].split("```")[0]
        assert unmapped(json.loads(example)) == []
