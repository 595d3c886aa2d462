"""Checks the locks: every package pinned with hashes, from no place of its own, as pyproject says.

That of the peer in bench/ is another program's: its pins need not agree with ours. Nor do those of
the examples in JavaScript.

Whether a pinned version is known to be vulnerable is only looked up where the command pip-audit is
and its database answers; a note says so where it does not. Exit 1 with every fault.
"""

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

TOP = Path(__file__).parents[1]
PIN = re.compile(r"(?P<name>[A-Za-z0-9._-]+)(?:\[[^]]*\])?==(?P<version>[^\s;\\]+)")
HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")
AUDIT_TIMEOUT_S = 60


def read_lock(text: str, name: str) -> tuple[dict[str, Version], list[str]]:
    """Return what a lock pins, and what is wrong with it."""
    pins: dict[str, Version] = {}
    faults: list[str] = []
    joined = re.sub(r"\\\n\s*", " ", text)
    for line in joined.splitlines():
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        found = PIN.match(line)
        if found is None:  # An index, an option, an address, a folder, a range.
            faults.append(f"{name}: not a pin: {line[:60]}")
            continue
        package = canonicalize_name(found["name"])
        rest = line[found.end() :].partition("--hash")[0]
        if "://" in line or "@" in rest:
            faults.append(f"{name}: {package} comes from an address of its own")
        options = re.findall(r"--\S+", line)
        if not options or not all(HASH.fullmatch(option) for option in options):
            faults.append(f"{name}: {package} has no SHA-256, or something beside it")
        if package in pins:
            faults.append(f"{name}: {package} is pinned twice")
        pins[package] = Version(found["version"])
    return pins, faults


def npm_faults(text: str, name: str) -> list[str]:
    """Return what is wrong with a lock of npm; that it is as package.json says, `npm ci` checks."""
    faults: list[str] = []
    for path, package in json.loads(text)["packages"].items():
        if path and not package.get("integrity", "").startswith("sha512-"):
            faults.append(f"{name}: {path} has no SHA-512")
        if "resolved" in package:
            faults.append(f"{name}: {path} comes from an address of its own")
    return faults


def disagreements(
    wanted: list[str], pins: dict[str, Version], name: str, extra: dict[str, Version] | None = None
) -> list[str]:
    """Return which requirements the pins do not meet, and where two locks differ."""
    faults: list[str] = []
    for requirement in map(Requirement, wanted):
        pinned = pins.get(canonicalize_name(requirement.name))
        if pinned is None:
            faults.append(f"{name}: {requirement.name} is missing: make the lock anew")
        elif not requirement.specifier.contains(pinned, prereleases=True):
            faults.append(f"{name}: {requirement.name} {pinned} is not {requirement.specifier}")
    for package, version in (extra or {}).items():
        if pins.get(package) != version:
            faults.append(f"{name}: {package} is not {version} as in the other lock")
    return faults


def audit(lock: Path) -> tuple[str, bool]:
    """Look the pins up among known vulnerabilities; say what came of it, and if that is well."""
    command = shutil.which("pip-audit", path=str(Path(sys.executable).parent)) or shutil.which(
        "pip-audit"
    )
    if command is None:
        return "known vulnerabilities: not looked up, pip-audit is not installed", True
    arguments = [command, "--requirement", str(lock), "--disable-pip", "--require-hashes"]
    try:
        ended = subprocess.run(
            arguments, capture_output=True, text=True, timeout=AUDIT_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return "known vulnerabilities: not looked up, the database does not answer", True
    if ended.returncode == 0:
        return "known vulnerabilities: none", True
    if "GHSA-" in ended.stdout or "PYSEC-" in ended.stdout or "CVE-" in ended.stdout:
        return f"known vulnerabilities:\n{ended.stdout}", False
    return "known vulnerabilities: not looked up, the database does not answer", True


def main() -> int:
    """Check all locks."""
    project = tomllib.loads((TOP / "pyproject.toml").read_text("utf-8"))
    wanted: list[str] = project["project"]["dependencies"]
    run_lock, dev_lock = TOP / "requirements.lock", TOP / "requirements-dev.lock"
    build_lock = TOP / "requirements-build.lock"
    peer_lock = TOP / "bench" / "peers" / "faststream" / "requirements.lock"
    pins, faults = read_lock(run_lock.read_text("utf-8"), run_lock.name)
    dev_pins, dev_faults = read_lock(dev_lock.read_text("utf-8"), dev_lock.name)
    faults += dev_faults
    faults += read_lock(peer_lock.read_text("utf-8"), "bench/peers: " + peer_lock.name)[1]
    for npm_lock in sorted((TOP / "examples").glob("*/package-lock.json")):
        faults += npm_faults(npm_lock.read_text("utf-8"), f"{npm_lock.parent.name}: npm")
    faults += disagreements(wanted, pins, run_lock.name)
    build_pins, build_faults = read_lock(build_lock.read_text("utf-8"), build_lock.name)
    faults += build_faults
    faults += disagreements(project["build-system"]["requires"], build_pins, build_lock.name)
    local: list[str] = project["project"]["optional-dependencies"]["local"]
    faults += [
        f"{run_lock.name}: {name} is for local servers alone: make the lock anew, without extras"
        for name in (canonicalize_name(Requirement(line).name) for line in local)
        if name in pins
    ]
    dev_wanted = wanted + local + project["dependency-groups"]["dev"]
    faults += disagreements(dev_wanted, dev_pins, dev_lock.name, pins)
    said, well = audit(dev_lock)
    faults.append(f"locks: {len(pins)} and {len(dev_pins)} packages, {len(faults)} faults; {said}")
    sys.stdout.write("\n".join(faults) + "\n")
    return 0 if well and len(faults) == 1 else 1


if __name__ == "__main__":
    sys.exit(main())
