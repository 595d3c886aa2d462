"""The version is the tag's, and what is built without git has one all the same."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]
DESCRIBED = "node: {}\nnode-date: 2026-11-22T00:00:00Z\ndescribe-name: {}\n"


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """What says how to build, in no repository."""
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(TOP / name, tmp_path)
    return tmp_path


def run(*words: str, folder: Path) -> str:
    env = {"PATH": "/usr/bin:/bin", "HOME": str(folder)}
    done = subprocess.run(words, cwd=folder, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def version_of(folder: Path) -> str:
    return run(sys.executable, "-m", "hatchling", "version", folder=folder)


class TestVersion:
    def test_of_a_tag_and_of_what_comes_after(self, sources: Path) -> None:
        me = ("-c", "user.name=x", "-c", "user.email=x@example.com")
        run("git", "init", "-q", folder=sources)
        run("git", "add", ".", folder=sources)
        run("git", *me, "commit", "-qm", "one", folder=sources)
        run("git", "tag", "v1.2.3", folder=sources)
        assert version_of(sources) == "1.2.3"
        run("git", *me, "commit", "-q", "--allow-empty", "-m", "two", folder=sources)
        assert version_of(sources).startswith("1.2.4.dev1+g")

    def test_without_git(self, sources: Path) -> None:
        assert version_of(sources) == "0.0.0"

    def test_of_an_archive(self, sources: Path) -> None:
        assert "$Format:%H$" in (TOP / ".git_archival.txt").read_text()
        (sources / ".git_archival.txt").write_text(DESCRIBED.format("a" * 40, "v1.2.3"))
        assert version_of(sources) == "1.2.3"
