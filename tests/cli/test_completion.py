"""Completion in the shells: what `--install-completion` sets up, and what TAB brings."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(sys.executable).parent
# Typer finds out which shell it runs in; this has it take the shell's name instead.
BY_NAME = {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}


def run(*words: str, **given: str) -> str:
    env = {"PATH": f"{HERE}:{os.environ['PATH']}", **BY_NAME, **given}
    done = subprocess.run(words, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


class TestCompletion:
    def test_in_bash_as_it_is_installed(self, tmp_path: Path) -> None:
        if (bash := shutil.which("bash")) is None:
            pytest.skip("needs bash")
        home = {"HOME": str(tmp_path)}
        run("orderstream", "--install-completion", "bash", **home)
        typed = "COMP_WORDS=({}); COMP_CWORD={}; _orderstream_completion orderstream; "
        script = "; ".join(
            (
                "source ~/.bashrc",
                typed.format("orderstream ser", 1) + "echo ${COMPREPLY[@]}",
                typed.format("orderstream serve inv", 2) + "echo ${COMPREPLY[@]}",
            )
        )
        assert run(bash, "-c", script, **home).split() == ["serve", "inventory"]

    @pytest.mark.parametrize(
        ("shell", "rc"), [("zsh", ".zfunc/_orderstream"), ("fish", ".config/fish/completions")]
    )
    def test_in_shells_that_need_not_be_here(self, shell: str, rc: str, tmp_path: Path) -> None:
        run("orderstream", "--install-completion", shell, HOME=str(tmp_path))
        installed = tmp_path / rc
        file = installed / "orderstream.fish" if shell == "fish" else installed
        assert "_ORDERSTREAM_COMPLETE=complete_" in file.read_text()
        said = run(
            "orderstream",
            _ORDERSTREAM_COMPLETE=f"complete_{shell}",
            _TYPER_COMPLETE_FISH_ACTION="get-args",
            _TYPER_COMPLETE_ARGS="orderstream serve inv",
        )
        assert "inventory" in said
        assert "analytics" not in said
