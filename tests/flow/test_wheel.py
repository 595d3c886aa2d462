"""What a user installs: the wheel has everything, and runs from anywhere; the sdist makes it."""

import subprocess
import sys
import sysconfig
import tarfile
import venv
from email.message import Message
from email.parser import Parser
from pathlib import Path
from zipfile import ZipFile

import psutil
import pytest

from tests.flow.installation import SERVICES, installation

CHECKOUT = Path(__file__).parents[2]
SOURCE = CHECKOUT / "src"
_MADE = {"__pycache__", "node_modules", "results"}  # By running what is there.


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist of this checkout, and the wheel that was made from that."""
    out = tmp_path_factory.mktemp("dist")
    run(
        sys.executable,
        *("-m", "build", "--no-isolation", "--outdir", str(out), str(CHECKOUT)),
    )
    return out


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    (found,) = built.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def sdist(built: Path) -> Path:
    (found,) = built.glob("*.tar.gz")
    return found


@pytest.fixture
def installed(wheel: Path, tmp_path: Path) -> Path:
    """The `orderstream` of a new environment with the wheel and this one's other packages."""
    home = tmp_path / "environment"
    venv.create(home, symlinks=True, with_pip=False)
    libraries = home / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}"
    # Of a folder that a .pth names the .pth files do not count: the editable install stays out.
    shared = {sysconfig.get_path(name) for name in ("purelib", "platlib")}
    (libraries / "site-packages" / "shared.pth").write_text("\n".join(shared))
    python = str(home / "bin" / "python")
    run(
        *(sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check"),
        *("install", "--no-index", "--no-deps", "--ignore-installed", str(wheel)),
    )
    return home / "bin" / "orderstream"


def run(*words: str) -> str:
    """Run a command that has to succeed; return what it printed."""
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def metadata(wheel: Path) -> Message:
    with ZipFile(wheel) as files:
        (name,) = (n for n in files.namelist() if n.endswith(".dist-info/METADATA"))
        return Parser().parsestr(files.read(name).decode())


class TestWheel:
    def test_has_every_file_of_the_package(self, wheel: Path) -> None:
        there = {
            str(path.relative_to(SOURCE))
            for path in (SOURCE / "orderstream").rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        }
        with ZipFile(wheel) as files:
            packed = set(files.namelist())
        assert there <= packed
        assert {"orderstream/py.typed", "orderstream/local/jars.lock"} <= packed
        assert {f"orderstream/{schema}/migrations" for schema in ("orders", "inventory")} <= {
            str(Path(name).parent) for name in packed if name.endswith(".sql")
        }

    def test_has_nothing_else(self, wheel: Path) -> None:
        with ZipFile(wheel) as files:
            tops = {Path(name).parts[0] for name in files.namelist()}
        assert {top for top in tops if not top.endswith(".dist-info")} == {"orderstream"}

    def test_says_its_licence_and_where_its_command_is(self, wheel: Path) -> None:
        said = metadata(wheel)
        assert (said["Name"], said["License-Expression"]) == ("orderstream", "Apache-2.0")
        assert said["License-File"] == "LICENSE"
        assert said["Requires-Python"] == ">=3.11"
        with ZipFile(wheel) as files:
            named = {Path(name).name: name for name in files.namelist() if ".dist-info" in name}
            entry_points = files.read(named["entry_points.txt"]).decode()
            assert b"Apache License" in files.read(named["LICENSE"])
        assert "[console_scripts]\norderstream = orderstream.cli:main\n" in entry_points


class TestSdist:
    def test_has_what_it_takes_to_check_and_test(self, sdist: Path) -> None:
        with tarfile.open(sdist) as files:
            names = {Path(*Path(name).parts[1:]) for name in files.getnames()}
        wanted = ("Makefile", "pyproject.toml", "requirements-dev.lock", ".ci/run", "LICENSE")
        assert {Path(name) for name in wanted} <= names
        for folder in ("src", "tests", "docs", "deploy", "examples", "bench"):
            there = {
                path.relative_to(CHECKOUT)
                for path in (CHECKOUT / folder).rglob("*")
                if path.is_file() and not _MADE & set(path.parts)
            }
            assert there <= names

    def test_is_of_the_same_version(self, sdist: Path, wheel: Path) -> None:
        assert sdist.name == f"orderstream-{metadata(wheel)['Version']}.tar.gz"


class TestInstalled:
    def test_is_the_wheel_and_not_the_checkout(self, installed: Path) -> None:
        python = str(installed.with_name("python"))
        where = run(python, "-c", "import orderstream; print(orderstream.__file__)").strip()
        assert Path(where).is_relative_to(installed.parents[1])

    def test_says_its_version(self, installed: Path, wheel: Path) -> None:
        assert run(str(installed), "--version") == f"orderstream {metadata(wheel)['Version']}\n"

    def test_up_confirms_an_order_and_leaves_no_process_behind(self, installed: Path) -> None:
        with installation("--quiet", command=(str(installed),)) as running:
            for service in SERVICES:
                assert running.http.get(f"{running.url(service)}/readyz").status_code == 200
            interpreter = psutil.Process(running.pid_of("order")).cmdline()[0]
            assert Path(interpreter).parent == installed.parent
            order = {"userId": 42, "items": [{"sku": "ABC-001", "qty": 2}]}
            answer = running.place(order, Prefer="wait=20")
            assert (answer.status_code, answer.json()["status"]) == (200, "CONFIRMED")
            assert running.end() == 0, running.log.read_text()
            assert [process.cmdline() for process in running.everything()] == []
