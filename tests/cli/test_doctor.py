"""`doctor`: what each check makes of what it finds."""

from pathlib import Path

import pytest

from orderstream.cli import doctor


class TestChecks:
    def test_an_old_python_fails(self) -> None:
        assert doctor.check_python((3, 10, 4)).state == "fail"
        assert doctor.check_python((3, 11, 0)).state == "ok"

    def test_a_home_that_can_be_made_is_well(self, tmp_path: Path) -> None:
        finding = doctor.check_home(tmp_path / "not" / "yet")
        assert finding.state == "ok"
        assert "made when it is needed" in finding.said

    def test_a_file_is_no_home(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        finding = doctor.check_home(tmp_path / "file" / "home")
        assert finding.state == "fail"
        assert "ORDERSTREAM_HOME" in finding.todo

    @pytest.mark.parametrize(
        ("free", "state"), [(10 << 30, "ok"), (1 << 30, "warn"), (1 << 20, "fail")]
    )
    def test_little_room_warns_and_none_fails(
        self, free: int, state: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        usage = type("Usage", (), {"free": free})
        monkeypatch.setattr("shutil.disk_usage", lambda _path: usage)
        assert doctor.check_disk(tmp_path).state == state

    def test_missing_topics_are_named(self) -> None:
        finding = doctor.check_topics(["a", "b"], {"a": 4})
        assert (finding.state, finding.said) == ("warn", "missing: b")
        assert doctor.check_topics(["a"], {"a": 4}).state == "ok"

    @pytest.mark.parametrize(
        ("version", "said", "state"),
        [(180_004, "version 18.4", "ok"), (140_011, "version 14.11", "fail")],
    )
    def test_postgresql_is_new_enough(self, version: int, said: str, state: str) -> None:
        finding = doctor.check_version(version)
        assert (finding.said, finding.state) == (said, state)
