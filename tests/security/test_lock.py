"""What `make check` finds in a lock."""

import json
import runpy
from pathlib import Path
from typing import Any

import pytest

CHECK: dict[str, Any] = runpy.run_path(str(Path(__file__).parents[2] / ".ci" / "check_lock.py"))
HASH = "--hash=sha256:" + "a" * 64
GOOD = f"httpx==0.28.1 ; python_version > '3' \\\n    {HASH} \\\n    {HASH}\n    # via us\n"


def faults(lock: str) -> list[str]:
    return CHECK["read_lock"](lock, "lock")[1]


class TestALock:
    def test_of_pins_with_hashes_is_well(self) -> None:
        assert faults(GOOD) == []

    @pytest.mark.parametrize(
        "line",
        [
            "--index-url https://packages.example/simple",
            "--extra-index-url=https://packages.example/simple",
            "-e .",
            "httpx>=0.28",
            "httpx==0.28.1",
            f"httpx @ https://packages.example/httpx.whl {HASH}",
            f"httpx==0.28.1 --hash=md5:{'a' * 32}",
            f"httpx==0.28.1 {HASH} --trusted-host=packages.example",
            GOOD + GOOD,
        ],
    )
    def test_of_anything_else_is_not(self, line: str) -> None:
        assert len(faults(line)) == 1

    def test_has_all_that_is_wanted_as_it_is_wanted(self) -> None:
        pins = CHECK["read_lock"](GOOD, "lock")[0]
        disagree = CHECK["disagreements"]
        assert disagree(["httpx>=0.28"], pins, "lock", pins) == []
        assert len(disagree(["httpx>=1", "other"], pins, "lock")) == 2
        assert len(disagree([], {}, "lock", pins)) == 1


class TestALockOfNpm:
    def test_of_hashes_is_well(self) -> None:
        assert npm_faults({"version": "2.2.4", "integrity": "sha512-x"}) == []

    @pytest.mark.parametrize(
        "package",
        [
            {"version": "2.2.4"},
            {"version": "2.2.4", "integrity": "sha1-x"},
            {"integrity": "sha512-x", "resolved": "https://packages.example/kafkajs.tgz"},
        ],
    )
    def test_of_anything_else_is_not(self, package: dict[str, str]) -> None:
        assert len(npm_faults(package)) == 1


def npm_faults(package: dict[str, str]) -> list[str]:
    lock = {"packages": {"": {"name": "example"}, "node_modules/kafkajs": package}}
    return CHECK["npm_faults"](json.dumps(lock), "npm")
