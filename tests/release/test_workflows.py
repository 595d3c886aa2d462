"""The workflows: what a person runs, with fixed actions and no more rights than they need."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

TOP = Path(__file__).parents[2]
WORKFLOWS = sorted((TOP / ".github/workflows").glob("*.yml"))
# Its releases hold what the index asks for at the time: it tells its users to follow this branch.
FOLLOWED = {"pypa/gh-action-pypi-publish@release/v1"}


def jobs(workflow: Path) -> dict[str, Any]:
    return yaml.safe_load(workflow.read_text())["jobs"]


def steps(workflow: Path) -> Iterator[dict[str, Any]]:
    for job in jobs(workflow).values():
        yield from job.get("steps", ())


def targets() -> set[str]:
    return set(re.findall(r"^([a-z]+):", (TOP / "Makefile").read_text(), re.MULTILINE))


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
class TestWorkflow:
    def test_makes_what_there_is_to_make(self, workflow: Path) -> None:
        made = {
            target
            for step in steps(workflow)
            for target in re.findall(r"^make (\S+)", step.get("run", ""), re.MULTILINE)
        }
        assert made <= targets()

    def test_uses_actions_by_the_commit(self, workflow: Path) -> None:
        for step in steps(workflow):
            if (action := step.get("uses")) and action not in FOLLOWED:
                assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", action), action

    def test_may_only_read_unless_a_job_says_otherwise(self, workflow: Path) -> None:
        assert yaml.safe_load(workflow.read_text())["permissions"] == {"contents": "read"}
        for name, job in jobs(workflow).items():
            writes = {k for k, v in job.get("permissions", {}).items() if v == "write"}
            assert writes <= {"publish": {"id-token"}, "image": {"packages"}}.get(name, set())

    def test_ends(self, workflow: Path) -> None:
        for job in jobs(workflow).values():
            assert "timeout-minutes" in job or job["uses"].startswith("./.github/workflows/")


def test_ci_runs_every_check_and_every_test_on_every_python() -> None:
    ci = TOP / ".github/workflows/ci.yml"
    made = {line for step in steps(ci) for line in step.get("run", "").splitlines()}
    assert {"make check", "make test", "make dist"} <= made
    said = re.findall(r"Python :: (3\.\d+)", (TOP / "pyproject.toml").read_text())
    assert jobs(ci)["test"]["strategy"]["matrix"]["python"] == said
