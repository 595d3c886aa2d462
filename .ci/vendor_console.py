"""Fetches the console's three JavaScript libraries from npm: `python .ci/vendor_console.py`.

The files are part of the package, so that nothing is built and nothing is loaded from elsewhere.
A version and the SHA-256 of each file as it is kept stand in vendor/lock.json; a test compares.
"""

import hashlib
import json
import subprocess
import tarfile
import tempfile
from pathlib import Path

VENDOR = Path(__file__).parents[1] / "src/orderstream/console/static/vendor"
# By package and version: the file in it, and what it is called here.
WANTED = {
    "preact@11.2.0": {"dist/preact.mjs": "preact.js", "hooks/dist/hooks.mjs": "hooks.js"},
    "htm@3.1.1": {"dist/htm.module.js": "htm.js"},
    "uplot@1.6.32": {"dist/uPlot.esm.js": "uplot.js", "dist/uPlot.min.css": "uplot.css"},
}
LICENCES = ("LICENSE", "LICENSE.md", "LICENSE.txt")


def main() -> None:
    """Fetch them all, and write the lock."""
    VENDOR.mkdir(parents=True, exist_ok=True)
    lock: dict[str, dict[str, str]] = {}
    for package, files in WANTED.items():
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run(["npm", "pack", "--silent", package], cwd=folder, check=True)
            (archive,) = Path(folder).glob("*.tgz")
            with tarfile.open(archive) as tar:
                tar.extractall(folder, filter="data")
            root = Path(folder) / "package"
            licence = next(path for name in LICENCES if (path := root / name).exists())
            name = package.partition("@")[0]
            parts = {f"{name}.LICENSE": licence.read_text("utf-8")}
            for source, kept in files.items():
                text = (root / source).read_text("utf-8")
                # A browser knows no bare names, and there are no source maps here.
                text = text.replace('from"preact"', 'from"./preact.js"')
                text = text.replace('from "preact"', 'from "./preact.js"')
                lines = [line for line in text.splitlines() if "sourceMappingURL" not in line]
                parts[kept] = "\n".join(lines) + "\n"
        for kept, text in parts.items():
            (VENDOR / kept).write_text(text, "utf-8")
        lock[package] = {
            kept: hashlib.sha256(text.encode()).hexdigest() for kept, text in parts.items()
        }
    (VENDOR / "lock.json").write_text(json.dumps(lock, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
