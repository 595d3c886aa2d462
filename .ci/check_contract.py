"""Checks that programs written against our contract go on working: `python .ci/check_contract.py`.

Holds what the code publishes against docs/schemas/baseline, the contract as it was last released.
Exit 1 with a sentence for each change that a reader or a writer could trip over. A field may be
added that nobody has to write; all else is as it was, or comes as another `version` of its event.

`--record` makes what is published now the baseline, and refuses whatever the check refuses: no
baseline is ever broken by writing it anew.
"""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from orderstream.asyncapi import FILE, documents, written
from orderstream.contract.events import EVENTS
from orderstream.runtime.settings import Settings

BASELINE = Path(__file__).parents[1] / "docs" / "schemas" / "baseline"
RECORD = "python .ci/check_contract.py --record"
OF_EVENT = re.compile(r"(?P<type>.+)\.v(?P<version>\d+)\.json")

Document = dict[str, Any]
KINDS = {bool: "boolean", int: "integer", float: "number", str: "string", type(None): "null"}
UNBOUNDED = float("inf")
MOST = {"maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"}
LEAST = {"minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties"}
NOT_COMPARED = {"title", "description", "examples", "$schema", "$id", "$defs", "$comment"}


def faults(before: dict[str, Document], now: dict[str, Document]) -> Iterator[str]:
    """Say what is wrong with these documents for whoever knows those of before, by file name."""
    if FILE not in before:
        yield f"there is no baseline: {RECORD}"
        return
    yield from _faults_of_topics(before[FILE], now[FILE])
    versions = {found["type"]: int(found["version"]) for found in map(OF_EVENT.match, now) if found}
    for name, document in before.items():
        if (found := OF_EVENT.match(name)) is None:
            continue
        event, version = found["type"], int(found["version"])
        if event not in versions:
            yield f"{event}: the event is removed"
        elif versions[event] < version:
            yield f"{event}: version {versions[event]} is published, after version {version}"
        elif versions[event] == version:
            old, new = whole(document, document), whole(now[name], now[name])
            yield from _differ(old, new, f"{event} v{version}: ")
    for event, version in versions.items():
        if f"{event}.v{version}.json" not in before:
            yield f"{event} v{version} has no baseline: {RECORD}"


def whole(schema: Any, document: Document) -> Any:
    """Return a schema with what it refers to in place, without what is said only to people."""
    match schema:
        case {"$ref": str(reference)}:
            found: Any = document
            for step in reference.removeprefix("#/").split("/"):
                found = found[step]
            return whole(found, document)
        case {"properties": properties}:
            rest = {word: value for word, value in schema.items() if word != "properties"}
            fields = {name: whole(field, document) for name, field in properties.items()}
            return whole(rest, document) | {"properties": fields}
        case dict():
            said = {word: value for word, value in schema.items() if word not in NOT_COMPARED}
            return {word: whole(value, document) for word, value in said.items()}
        case list():
            return [whole(one, document) for one in schema]
        case _:
            return schema


def _faults_of_topics(before: Document, now: Document) -> Iterator[str]:
    for channel, old in before["channels"].items():
        new = now["channels"].get(channel)
        if new is None:
            yield f"{channel}: the topic is removed"
            continue
        if new["address"] != old["address"]:
            yield f"{channel}: the topic is called {new['address']}"
        for name in old["messages"].keys() - new["messages"].keys():
            yield f"{channel}: there are no messages {name} any more"
        for name in new["messages"].keys() - old["messages"].keys():
            yield f"{channel}: there are new messages, {name}"
        for name in old["messages"].keys() & new["messages"].keys():
            was, is_now = (whole(d["components"]["messages"][name], d) for d in (before, now))
            yield from _faults_of_messages(was, is_now, channel)


def _faults_of_messages(old: Document, new: Document, channel: str) -> Iterator[str]:
    if old["contentType"] != new["contentType"]:
        yield f"{channel}: the payload is {new['contentType']} where it was {old['contentType']}"
    yield from _differ(old.get("headers", {}), new.get("headers", {}), f"{channel}: header ")
    keys = (message["bindings"]["kafka"]["key"] for message in (old, new))
    yield from _differ(*keys, f"{channel}: key")
    if old.get("name") not in EVENTS:  # Those have files of their own, by version.
        yield from _differ(old["payload"], new["payload"], f"{channel}: payload ")


# Two schemas of one thing --------------------------------------------------------------------


def _differ(old: Document, new: Document, at: str) -> Iterator[str]:
    """Say how schemas differ; `at` is the event or topic, and the path in it."""
    was, is_now = _kinds(old), _kinds(new)
    if len(was) == len(is_now) == 1 and was.keys() != is_now.keys():
        yield f"{at} is {', '.join(is_now)} where it was {', '.join(was)}"
        return
    for kind in sorted(was.keys() - is_now.keys()):
        yield f"{at} is never {kind} any more"
    for kind in sorted(is_now.keys() - was.keys()):
        yield f"{at} may now be {kind}"
    for kind in sorted(was.keys() & is_now.keys()):
        yield from _words_differ(was[kind], is_now[kind], at)


def _kinds(schema: Document) -> dict[str, Document]:
    """Return the kinds of value that a schema takes, each with what is said of it."""
    found: dict[str, Document] = {}
    beside = {word: value for word, value in schema.items() if word != "anyOf"}
    for branch in schema.get("anyOf", [{}]):
        said = beside | branch
        kind = str(said.get("type") or _kind_of_one_of(said))
        found[f"{kind} {len(found)}" if kind in found else kind] = said
    return found


def _kind_of_one_of(schema: Document) -> str:
    values = schema.get("enum", [schema["const"]] if "const" in schema else [])
    return "/".join(sorted({KINDS[type(value)] for value in values})) or "anything"


def _words_differ(old: Document, new: Document, at: str) -> Iterator[str]:
    yield from _fields_differ(old, new, at)
    for value in old.get("enum", []):
        if "enum" in new and value not in new["enum"]:
            yield f"{at} is never {value!r} any more"
    for value in new.get("enum", []):
        if "enum" in old and value not in old["enum"]:
            yield f"{at} may now be {value!r}"
    if "items" in old and "items" in new:
        yield from _differ(old["items"], new["items"], f"{at}[]")
    parts, parts_now = old.get("allOf", []), new.get("allOf", [])
    if len(parts) == len(parts_now):
        for part, part_now in zip(parts, parts_now, strict=True):
            yield from _differ(part, part_now, at)
    looked_into = {"properties", "required"}
    looked_into |= {word for word in ("enum", "items") if word in old and word in new}
    if len(parts) == len(parts_now):
        looked_into.add("allOf")
    for word in sorted((old.keys() | new.keys()) - looked_into):
        was, is_now = old.get(word), new.get(word)
        if was != is_now:
            where = f"{at}{_how(word, was, is_now)}".removesuffix(": ")
            yield f"{where}: {word} is {_shown(is_now)} where it was {_shown(was)}"


def _fields_differ(old: Document, new: Document, at: str) -> Iterator[str]:
    fields, fields_now = old.get("properties", {}), new.get("properties", {})
    needed, needed_now = set(old.get("required", ())), set(new.get("required", ()))
    inside = at if at.endswith(" ") else f"{at}."
    for name, field in fields.items():
        if name not in fields_now:
            yield f"{inside}{name} is removed"
            continue
        if name in needed - needed_now:
            yield f"{inside}{name} may now be left out"
        if name in needed_now - needed:
            yield f"{inside}{name} may no longer be left out"
        yield from _differ(field, fields_now[name], f"{inside}{name}")
    for name in sorted((needed_now - needed) - fields.keys()):
        yield f"{inside}{name} is new and may not be left out"


def _how(word: str, was: Any, is_now: Any) -> str:
    """Tell whether a limit is narrower or wider than it was."""
    if word not in MOST | LEAST:
        return ""
    none = UNBOUNDED if word in MOST else -UNBOUNDED
    less = (none if is_now is None else is_now) < (none if was is None else was)
    return " is narrowed" if less == (word in MOST) else " is widened"


def _shown(value: Any) -> str:
    return "not there" if value is None else json.dumps(value, ensure_ascii=False)


# -------------------------------------------------------------------------------------------


def read(folder: Path) -> dict[str, Document]:
    """Return the documents of a folder by file name."""
    return {
        path.name: json.loads(path.read_text("utf-8")) for path in sorted(folder.glob("*.json"))
    }


def main(arguments: list[str]) -> int:
    """Check, or record what is published as the baseline."""
    now = json.loads(json.dumps(documents(Settings.load({}))))
    found = list(dict.fromkeys(faults(read(BASELINE), now)))  # A default is of every kind.
    if arguments == ["--record"] and all(fault.endswith(RECORD) for fault in found):
        BASELINE.mkdir(parents=True, exist_ok=True)
        for name, document in now.items():
            (BASELINE / name).write_text(written(document), "utf-8")
        found = []
    said = found or [f"contract: {len(now)} documents, nothing that anybody could trip over"]
    if found:
        said.append("Keep what there was, or give the event another version: CONTRIBUTING.md")
    sys.stdout.write("\n".join(said) + "\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
