"""What `make check` says of a change to the contract."""

import copy
import json
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orderstream.asyncapi import documents
from orderstream.runtime.settings import Settings
from tests.test_documented import TOP

CHECK: dict[str, Any] = runpy.run_path(str(TOP / ".ci" / "check_contract.py"))
NOW: dict[str, Any] = json.loads(json.dumps(documents(Settings.load({}))))
Change = Callable[[dict[str, Any]], object]

CREATED, REJECTED = "order.created.v1.json", "inventory.rejected.v1.json"


def faults_after(change: Change, before: dict[str, Any] = NOW) -> list[str]:
    """Return what is said of a change to what is published."""
    changed = copy.deepcopy(before)
    change(changed)
    return list(CHECK["faults"](before, changed))


def fields(documents: dict[str, Any], name: str = CREATED) -> dict[str, Any]:
    return documents[name]["properties"]


def line(documents: dict[str, Any]) -> dict[str, Any]:
    return documents[CREATED]["$defs"]["Line"]


def message(documents: dict[str, Any], name: str) -> dict[str, Any]:
    return documents["asyncapi.json"]["components"]["messages"][name]


def headers(documents: dict[str, Any], name: str = "InventoryReserved") -> dict[str, Any]:
    return message(documents, name)["headers"]["properties"]


def retyped_line(d: dict[str, Any]) -> None:
    line(d)["properties"]["qty"] = {"type": "string"}


def needed(d: dict[str, Any]) -> None:
    fields(d)["currency"] = {"type": "string"}
    d[CREATED]["required"].append("currency")


def next_version(d: dict[str, Any]) -> None:
    document = d.pop(CREATED)
    del document["properties"]["userId"]
    d["order.created.v2.json"] = document


def a_sender(d: dict[str, Any]) -> None:
    fields(d)["sender"] = {"$ref": "#/$defs/Sender"}
    sender = {"type": "object", "properties": {"email": {"type": "string"}}, "required": ["email"]}
    d[CREATED]["$defs"]["Sender"] = sender


BROKEN: dict[str, tuple[Change, str]] = {
    "a field is removed": (
        lambda d: fields(d).pop("userId"),
        "order.created v1: userId is removed",
    ),
    "a field of a line is removed": (
        lambda d: line(d)["properties"].pop("sku"),
        "order.created v1: items[].sku is removed",
    ),
    "a field is retyped": (
        lambda d: fields(d).update(owner={"type": "integer"}),
        "order.created v1: owner is integer where it was string",
    ),
    "a field of a line is retyped": (
        retyped_line,
        "order.created v1: items[].qty is string where it was integer",
    ),
    "a field is another type, too": (
        lambda d: fields(d).update(owner={"anyOf": [{"type": "string"}, {"type": "null"}]}),
        "order.created v1: owner may now be null",
    ),
    "a field is one type fewer": (
        lambda d: fields(d)["userId"]["anyOf"].pop(0),
        "order.created v1: userId is never integer any more",
    ),
    "a new field is required": (
        needed,
        "order.created v1: currency is new and may not be left out",
    ),
    "a field is required from now on": (
        lambda d: d[CREATED]["required"].append("userId"),
        "order.created v1: userId may no longer be left out",
    ),
    "a field is not always there any more": (
        lambda d: d[REJECTED]["required"].remove("short"),
        "inventory.rejected v1: short may now be left out",
    ),
    "a value is gone": (
        lambda d: fields(d, REJECTED)["reason"]["enum"].remove("UNKNOWN_SKU"),
        "inventory.rejected v1: reason is never 'UNKNOWN_SKU' any more",
    ),
    "a value is new": (
        lambda d: fields(d, REJECTED)["reason"]["enum"].append("FRAUD"),
        "inventory.rejected v1: reason may now be 'FRAUD'",
    ),
    "a limit is narrower": (
        lambda d: fields(d)["items"].update(maxItems=100),
        "order.created v1: items is narrowed: maxItems is 100 where it was 500",
    ),
    "a limit is wider": (
        lambda d: fields(d)["items"].update(minItems=0),
        "order.created v1: items is widened: minItems is 0 where it was 1",
    ),
    "a limit is new": (
        lambda d: line(d)["properties"]["qty"].update(maximum=9),
        "order.created v1: items[].qty is narrowed: maximum is 9 where it was not there",
    ),
    "a limit is gone": (
        lambda d: line(d)["properties"]["qty"].pop("minimum"),
        "order.created v1: items[].qty is widened: minimum is not there where it was 1",
    ),
    "a limit beside others is narrower": (
        lambda d: fields(d)["items"]["allOf"][0]["items"]["properties"]["qty"].update(maximum=5),
        "order.created v1: items[].qty is narrowed: maximum is 5 where it was 1000000",
    ),
    "a pattern is another": (
        lambda d: line(d)["properties"]["sku"].update(pattern="^x$"),
        'order.created v1: items[].sku: pattern is "^x$" where it was ',
    ),
    "a default is another": (
        lambda d: fields(d, "order.cancelled.v1.json")["cause"].update(default="EXPIRED"),
        'order.cancelled v1: cause: default is "EXPIRED" where it was "CANCELLED"',
    ),
    "fields that nobody knows are refused": (
        lambda d: d[CREATED].update(additionalProperties=False),
        "order.created v1: additionalProperties is false where it was not there",
    ),
    "an event is removed": (
        lambda d: d.pop(REJECTED),
        "inventory.rejected: the event is removed",
    ),
    "a version has no baseline": (
        next_version,
        "order.created v2 has no baseline: python .ci/check_contract.py --record",
    ),
    "a topic is removed": (
        lambda d: d["asyncapi.json"]["channels"].pop("inventory.released"),
        "inventory.released: the topic is removed",
    ),
    "a topic has another name": (
        lambda d: d["asyncapi.json"]["channels"]["order.created"].update(address="orders"),
        "order.created: the topic is called orders",
    ),
    "a topic has other messages": (
        lambda d: d["asyncapi.json"]["channels"]["order.created"]["messages"].clear(),
        "order.created: there are no messages OrderCreated any more",
    ),
    "a header is removed": (
        lambda d: headers(d).pop("ce_id"),
        "inventory.reserved: header ce_id is removed",
    ),
    "an optional header is removed": (
        lambda d: headers(d).pop("traceparent"),
        "inventory.reserved: header traceparent is removed",
    ),
    "a header says something else": (
        lambda d: headers(d)["ce_source"].update(const="/stock"),
        'inventory.reserved: header ce_source: const is "/stock" where it was ',
    ),
    "a dead letter's header is of another length": (
        lambda d: headers(d, "DeadLetter")["kafka_dlt-original-offset"].update(minLength=4),
        "order.created.DLT: header kafka_dlt-original-offset is widened: minLength is 4",
    ),
    "a key is something else": (
        lambda d: message(d, "OrderCreated")["bindings"]["kafka"]["key"].update(type="integer"),
        "order.created: key is integer where it was string",
    ),
    "what is no event is retyped": (
        lambda d: d["asyncapi.json"]["components"]["schemas"]["Handled"]["properties"].pop("by"),
        "dead-letters.handled: payload by is removed",
    ),
}
WELL: dict[str, Change] = {
    "nothing": lambda _: None,
    "an optional field": lambda d: fields(d).update(currency={"type": "string"}),
    "an optional object": a_sender,
    "an optional field of a line": lambda d: line(d)["properties"].update(note={"type": "string"}),
    "an optional header": lambda d: headers(d).update(note={"type": "string"}),
    "a topic": lambda d: d["asyncapi.json"]["channels"].update(shipped={}),
    "words for people": lambda d: fields(d)["items"].update(description="what is wanted"),
    "examples": lambda d: d[CREATED].update(examples=[]),
}


class TestAChange:
    @pytest.mark.parametrize("what", BROKEN)
    def test_that_somebody_could_trip_over_is_named(self, what: str) -> None:
        change, sentence = BROKEN[what]
        found = faults_after(change)
        assert found
        assert found[0].startswith(sentence), found

    @pytest.mark.parametrize("what", WELL)
    def test_that_nobody_could_trip_over_passes(self, what: str) -> None:
        assert faults_after(WELL[what]) == []

    def test_of_all_kinds_is_well_under_another_version_once_that_is_recorded(self) -> None:
        changed = copy.deepcopy(NOW)
        next_version(changed)
        recorded = NOW | {"order.created.v2.json": changed["order.created.v2.json"]}
        assert list(CHECK["faults"](recorded, changed)) == []
        assert list(CHECK["faults"](recorded, NOW)) == [
            "order.created: version 1 is published, after version 2"
        ]


class TestTheBaseline:
    def test_is_there_for_every_event_and_holds(self) -> None:
        baseline = CHECK["read"](CHECK["BASELINE"])
        assert NOW.keys() <= baseline.keys()
        assert list(CHECK["faults"](baseline, NOW)) == []

    def test_is_not_recorded_over_by_what_breaks_it(
        self,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        run = CHECK["main"]
        monkeypatch.setitem(run.__globals__, "BASELINE", tmp_path)
        assert run([]) == 1
        assert run(["--record"]) == 0
        assert run([]) == 0
        recorded = (tmp_path / CREATED).read_text("utf-8")
        promised = recorded.replace('"owner"', '"buyer"')
        (tmp_path / CREATED).write_text(promised, "utf-8")
        capsys.readouterr()
        assert run(["--record"]) == 1
        assert "order.created v1: buyer is removed" in capsys.readouterr().out
        assert (tmp_path / CREATED).read_text("utf-8") == promised
