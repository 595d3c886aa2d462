"""The image: what its Dockerfile says, and that what it says is there and works."""

import importlib.metadata
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from orderstream.local.extra import PACKAGES
from orderstream.runtime.settings import Settings
from tests.containers.image import (
    DOCKERFILE,
    TOP,
    environment_of_image,
    instructions,
    locked,
    said,
)

IMAGE_MB_MAX = 250
# What engines say of python:3.11-slim-bookworm is 121 to 131 MB: Debian 75, the rest is Python.
BASE_MB = 131


def sources(rest: str) -> list[str]:
    """Return what a COPY takes from this folder."""
    words = shlex.split(rest)
    if any(word.startswith("--from") for word in words):
        return []
    return [word for word in words[:-1] if not word.startswith("--")]


COPIED = [source for word, rest in instructions() if word == "COPY" for source in sources(rest)]


class TestDockerfile:
    def test_the_base_is_pinned_by_its_digest(self) -> None:
        stages = [rest for word, rest in instructions() if word == "FROM"]
        names = {rest.partition(" AS ")[2] for rest in stages} - {""}
        foreign = [rest for rest in stages if rest.partition(" AS ")[0] not in names]
        assert len(stages) > len(foreign) == 1
        assert re.match(r"python:3\.\d+\.\d+-slim-\w+@sha256:[0-9a-f]{64} ", foreign[0])

    def test_nobody_is_root_at_the_end(self) -> None:
        (user,) = said("USER")
        user_id, group_id = user.split(":")
        assert min(int(user_id), int(group_id)) > 999

    def test_there_is_no_secret_and_nothing_from_elsewhere(self) -> None:
        text = DOCKERFILE.read_text("utf-8")
        words = {word for word, _ in instructions()}
        assert words <= {
            *("FROM", "WORKDIR", "ARG", "ENV", "RUN", "COPY", "LABEL"),
            *("USER", "EXPOSE", "HEALTHCHECK", "ENTRYPOINT", "CMD"),
        }
        assert "://" not in text
        for name in environment_of_image():
            assert not re.search("PASSWORD|SECRET|KEY|TOKEN|DATABASE_URL", name)

    def test_packages_come_by_their_hashes(self) -> None:
        runs = " && ".join(rest for word, rest in instructions() if word == "RUN").split("&&")
        installing = [run for run in runs if " install " in run]
        assert len(installing) == 3
        for run in installing:
            assert "--require-hashes" in run or "--no-deps --no-index dist" in run

    @pytest.mark.parametrize("source", COPIED)
    def test_what_is_copied_is_there_and_not_ignored(self, source: str) -> None:
        assert (TOP / source.removeprefix("./")).exists()
        assert f"!{source.removeprefix('./')}" in (TOP / ".dockerignore").read_text().splitlines()

    def test_nothing_else_gets_in(self) -> None:
        lines = (TOP / ".dockerignore").read_text().splitlines()
        kept = [line for line in lines if line and not line.startswith("#")]
        assert kept[0] == "*"
        assert {line[1:] for line in kept if line.startswith("!")} == set(COPIED)

    def test_what_the_package_is_made_of_is_copied(self) -> None:
        """Else the wheel cannot be built there, or lacks its licence."""
        assert {"pyproject.toml", "README.md", "LICENSE", "src"} <= set(COPIED)

    def test_the_ports_are_those_of_the_services(self) -> None:
        (ports,) = said("EXPOSE")
        names = ("order", "inventory", "view", "notification", "analytics", "console")
        settings = Settings.load({})
        assert sorted(map(int, ports.split())) == sorted(settings.port(name) for name in names)

    def test_the_health_check_is_that_of_the_command(self) -> None:
        (check,) = said("HEALTHCHECK")
        healthy, port = json.loads(check.partition(" CMD ")[2])
        (command,) = map(json.loads, said("CMD"))
        assert command == ["serve", "order"]
        assert (healthy, int(port)) == ("healthy", Settings.load({}).port(command[1]))
        assert any(
            rest.endswith(" deploy/healthy.py /usr/local/bin/healthy") for rest in said("COPY")
        )
        script = TOP / "deploy" / "healthy.py"
        assert script.read_text().startswith("#!/usr/local/bin/python -IS\n")
        assert script.stat().st_mode & 0o111


class TestEnvironment:
    def test_has_no_package_of_the_local_servers(self, commands: Path) -> None:
        python = commands / "python"
        script = (
            "import sys, importlib.util as u; print([n for n in sys.argv[1:] if u.find_spec(n)])"
        )
        words = [python, "-c", script, *PACKAGES, "pytest", "pip", "orderstream", "confluent_kafka"]
        done = subprocess.run(words, capture_output=True, text=True, timeout=30, check=True)
        assert done.stdout.strip() == "['orderstream', 'confluent_kafka']"

    def test_says_how_to_get_local_servers_where_they_are_asked_for(
        self, commands: Path, tmp_path: Path
    ) -> None:
        done = run(commands, tmp_path, "kafka", "start", ORDERSTREAM_HOST="127.0.0.1")
        assert done.returncode == 2
        assert "orderstream[local]" in done.stderr

    def test_the_command_is_there(self, commands: Path, tmp_path: Path) -> None:
        (entrypoint,) = map(json.loads, said("ENTRYPOINT"))
        assert (commands / entrypoint[0]).exists()
        assert run(commands, tmp_path, "--version").stdout.startswith("orderstream ")

    def test_serves_nobody_beyond_loopback_without_keys(
        self, commands: Path, tmp_path: Path
    ) -> None:
        (command,) = map(json.loads, said("CMD"))
        done = run(commands, tmp_path, *command)
        assert done.returncode == 2
        assert "ORDERSTREAM_API_KEYS" in done.stderr

    def test_is_small(self) -> None:
        """Bytecode, which pip adds, is 1.25 times its source: so it was in an image.

        That of Apprise's channels is taken out.
        """
        size = 0.0
        for distribution in [*locked(), importlib.metadata.distribution("orderstream")]:
            for file in distribution.files or ():
                path = Path(str(distribution.locate_file(file)))
                if path.exists() and ".." not in file.parts and file.suffix != ".pyc":
                    compiled = file.suffix == ".py" and "apprise/plugins/" not in file.as_posix()
                    size += path.stat().st_size * (2.25 if compiled else 1)
        for path in (TOP / "src").rglob("*.*"):
            if path.suffix != ".pyc":
                size += path.stat().st_size * (2.25 if path.suffix == ".py" else 1)
        assert size / 1e6 + BASE_MB < IMAGE_MB_MAX, f"{size / 1e6:.0f} MB of packages"

    def test_what_is_in_it_can_be_listed(self, tmp_path: Path) -> None:
        """As `make sbom` does."""
        makefile = (TOP / "Makefile").read_text("utf-8")
        (line,) = re.findall(r"^\t\$\(BIN\)/(cyclonedx-py .*)$", makefile, re.MULTILINE)
        listed = tmp_path / "sbom.json"
        words = shlex.split(line.replace("dist/sbom.cdx.json", str(listed)))
        tool = Path(sys.executable).with_name(words[0])
        subprocess.run([tool, *words[1:]], cwd=TOP, timeout=60, check=True, capture_output=True)
        sbom = json.loads(listed.read_text("utf-8"))
        assert sbom["bomFormat"] == "CycloneDX"
        assert sbom["metadata"]["component"]["name"] == "orderstream"
        pinned = re.findall(r"^([\w.-]+)==([^\s;]+)", (TOP / "requirements.lock").read_text(), re.M)
        assert len(pinned) > 40
        assert {(part["name"], part["version"]) for part in sbom["components"]} == set(pinned)


def run(
    commands: Path, folder: Path, *arguments: str, **more: str
) -> subprocess.CompletedProcess[str]:
    """Run the image's command with what the image sets, and nothing of ours."""
    own = {"PATH": f"{commands}:/usr/bin:/bin", "HOME": str(folder)}
    return subprocess.run(
        [commands / "orderstream", *arguments],
        env=environment_of_image() | own | more,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
