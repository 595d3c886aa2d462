"""The bundled Java is taught once, by a broker at work, and later brokers begin with that."""

from pathlib import Path

import pytest

from orderstream.local import jvm, kafka, warm_up
from orderstream.local.jars import default_cache, ensure_jars
from tests.ports import own_port


class TestWarmingUp:
    @pytest.mark.timeout(300)
    def test_leaves_what_a_broker_starts_from(
        self, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ensure_jars(default_cache())
        cache = tmp_path / "cache"
        cache.mkdir()
        (cache / "jars").symlink_to(default_cache() / "jars")
        monkeypatch.setattr(warm_up, "_EXERCISE_S", 2.0)
        warm_up.warm_up(cache)
        assert [path.name for path in cache.glob("*.aot")] == [jvm.archive(cache).name]
        made = jvm.archive(cache).stat().st_mtime_ns
        warm_up.warm_up(cache)  # It is there: nothing is done.
        assert jvm.archive(cache).stat().st_mtime_ns == made

        monkeypatch.setenv("ORDERSTREAM_CACHE", str(cache))
        status = kafka.start(home, port=own_port())
        (pid,) = status.pids
        assert f"-XX:AOTCache={jvm.archive(cache)}" in Path(f"/proc/{pid}/cmdline").read_text()
