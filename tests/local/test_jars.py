"""Jars come from a repository whole and as locked, or not at all."""

import http.server
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from orderstream.contract.errors import ConfigurationError
from orderstream.local.jars import default_cache, ensure_jars, read_lock


class _Repository(http.server.BaseHTTPRequestHandler):
    """Serves the jars of the shared cache in Maven's layout; those in `altered` with a bit more."""

    altered: ClassVar[set[str]] = set()
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        name = self.path.rsplit("/", 1)[1]
        jar = default_cache() / "jars" / name
        if not jar.exists():
            self.send_error(404)
            return
        self.asked.append(name)
        body = jar.read_bytes() + (b"!" if name in self.altered else b"")
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[_Repository]]:
    ensure_jars(default_cache())
    _Repository.altered = set()
    _Repository.asked = []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Repository)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    use_mirror(tmp_path, monkeypatch, server.server_address[1])
    yield _Repository
    server.shutdown()
    server.server_close()


def use_mirror(folder: Path, monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    settings = folder / "jgo.conf"
    settings.write_text(f"[repositories]\nmirror = http://127.0.0.1:{port}\n", "utf-8")
    monkeypatch.setenv("JGO_CONFIG_FILE", str(settings))


class TestEnsureJars:
    def test_fetches_each_jar_once_and_tells_how_far_it_is(
        self, repository: type[_Repository], tmp_path: Path
    ) -> None:
        told: list[tuple[int, int]] = []
        jars = ensure_jars(tmp_path / "cache", lambda done, total: told.append((done, total)))
        assert [jar.name for jar in jars] == [
            f"{jar.artifact}-{jar.version}.jar" for jar in read_lock()
        ]
        assert all(jar.exists() for jar in jars)
        total = sum(jar.size for jar in read_lock())
        assert told[0] == (0, total)
        assert told[-1] == (total, total)
        ensure_jars(tmp_path / "cache")
        assert sorted(repository.asked) == sorted(jar.name for jar in jars)
        assert sorted(path.name for path in (tmp_path / "cache").iterdir()) == [
            "jars",
            "jars.flock",
        ]

    def test_refuses_and_deletes_an_altered_jar_and_keeps_the_rest(
        self, repository: type[_Repository], tmp_path: Path
    ) -> None:
        shutil.copytree(default_cache() / "jars", tmp_path / "jars")
        ours = read_lock()[0].path(tmp_path)
        ours.unlink()
        repository.altered.add(ours.name)
        with pytest.raises(ConfigurationError, match="another SHA-256"):
            ensure_jars(tmp_path)
        assert not ours.exists()
        repository.altered.clear()
        assert ours in ensure_jars(tmp_path)
        assert repository.asked == [ours.name, ours.name]

    def test_fetches_a_truncated_jar_again(
        self, repository: type[_Repository], tmp_path: Path
    ) -> None:
        shutil.copytree(default_cache() / "jars", tmp_path / "jars")
        first = read_lock()[0]
        first.path(tmp_path).write_bytes(b"")
        ensure_jars(tmp_path)
        assert first.present(tmp_path)
        assert repository.asked == [first.path(tmp_path).name]

    def test_processes_that_ask_at_once_fetch_each_jar_once(
        self, repository: type[_Repository], tmp_path: Path
    ) -> None:
        program = (
            "import sys, pathlib; from orderstream.local.jars import ensure_jars;"
            "ensure_jars(pathlib.Path(sys.argv[1]))"
        )
        command = [sys.executable, "-c", program, str(tmp_path)]
        both = [subprocess.Popen(command), subprocess.Popen(command)]
        assert [process.wait(60) for process in both] == [0, 0]
        assert len(repository.asked) == len(read_lock())

    def test_offline_says_what_to_do(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        use_mirror(tmp_path, monkeypatch, 9)  # Nothing listens on the discard port.
        with pytest.raises(ConfigurationError, match="connect this machine to the network"):
            ensure_jars(tmp_path / "cache")
