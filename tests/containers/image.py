"""The image without an engine: what its Dockerfile says, and its packages in a folder."""

import importlib.metadata
import re
import shlex
import sys
import venv
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement

TOP = Path(__file__).parents[2]
DOCKERFILE = TOP / "Dockerfile"
# Made at the same place in each environment, or for other systems than this.
NOT_KEPT = re.compile(r"^\.\.|^/|__pycache__")


def instructions() -> list[tuple[str, str]]:
    """Return each instruction of the Dockerfile with the rest of its line, continued ones whole."""
    lines = [line for line in DOCKERFILE.read_text("utf-8").splitlines() if line[:1] != "#"]
    whole = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [
        (word, rest)
        for word, _, rest in (line.partition(" ") for line in whole.splitlines() if line)
    ]


def said(word: str) -> list[str]:
    """Return what follows an instruction in the last stage, from each of its lines."""
    found: list[str] = []
    for name, rest in instructions():
        if name == "FROM":
            found = []
        elif name == word:
            found.append(rest)
    return found


def environment_of_image() -> dict[str, str]:
    """Return what ENV sets in the last stage."""
    pairs = (pair.partition("=") for line in said("ENV") for pair in shlex.split(line))
    return {name: value for name, _, value in pairs}


def locked() -> Iterator[importlib.metadata.Distribution]:
    """Yield the installed packages that requirements.lock has for this system."""
    for line in (TOP / "requirements.lock").read_text("utf-8").splitlines():
        if line[:1].isalnum():
            requirement = Requirement(line.rstrip(" \\"))
            if requirement.marker is None or requirement.marker.evaluate():
                yield importlib.metadata.distribution(requirement.name)


def install(folder: Path) -> Path:
    """Make what the image has in /opt/orderstream, of links, and return its folder of commands.

    It has the packages of requirements.lock and orderstream itself: no others can be imported.
    """
    venv.create(folder, symlinks=True, with_pip=False)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = folder / "lib" / version / "site-packages"
    ours = importlib.metadata.distribution("orderstream")
    for distribution in [*locked(), ours]:
        for file in distribution.files or ():
            if not NOT_KEPT.search(str(file)) and file.suffix != ".pth":
                link = packages / file
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(str(distribution.locate_file(file)))
    (packages / "orderstream").symlink_to(TOP / "src" / "orderstream")
    (command,) = (point for point in ours.entry_points if point.name == "orderstream")
    script = folder / "bin" / "orderstream"
    script.write_text(
        f"#!{folder}/bin/python\nfrom {command.module} import {command.attr}\n{command.attr}()\n"
    )
    script.chmod(0o755)
    return script.parent
