"""A page's commands, typed into a shell as they stand there, and what they print beside it.

What is shown is what has to be printed, but for what no two runs have in common: times, fractions,
numbers of five digits and more (ids of processes and of orders), and whatever stands for `...`.
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.test_documented import code_blocks
from tests.waiting import until

# Where a page says that things are, and by which setting a test has them elsewhere.
PORTS = {
    "ORDER": 8080,
    "INVENTORY": 8082,
    "NOTIFICATION": 8083,
    "ANALYTICS": 8084,
    "CONSOLE": 8085,
    "VIEW": 8086,
    "KAFKA": 9092,
}
HOMES = ("~/orderstream-tutorial", "~/.local/share/orderstream")
# What goes on in a terminal of its own.
SERVER = re.compile(r"orderstream (?:serve|run) (\S+)")
PID = re.compile(r"\$\(pgrep -f 'orderstream serve (\w+)'\)")
# What changes nothing is typed again until it prints what is shown.
READS = re.compile(
    r"orderstream (?:serve|run|consume|lag|verify|order (?:get|list)|stock list"
    r"|dlt (?:list|show)|notify list|doctor)\b|curl -s \S+$"
)
# And this until it is not too early any more.
REFUSES = re.compile(r"orderstream replay ")
VARIES = re.compile(
    r"(?P<before>\A\.\.\.\n)|(?P<between>\n\.\.\.\n)|(?P<after>\n\.\.\.\Z)"
    r"|(?P<time>\d{4}-\d\d-\d\dT[\d:.]+Z)|(?P<version>(?<![\d.])\d+\.\d+\.\d+(?![\d.]))"
    r"|(?P<fraction>\d+\.\d+)|(?P<number>\d{5,})|(?P<any>\.\.\.)|(?P<space>\s+)"
)
PATTERNS = {
    "before": r"(?:.*?\n)?",  # A line of its own stands for any number of lines, also none.
    "between": r"\n(?:.*?\n)?",
    "after": r"(?:\n.*)?",
    "time": r"\d{4}-\d\d-\d\dT[\d:.]+Z",
    "version": r"\d+\.\d+\.\d+",
    "fraction": r"\d+\.\d+",
    "number": r"\d+",
    "any": r".*?",
    "space": r"\s+",
}
PATIENCE_S = 30.0


@dataclass(frozen=True)
class Step:
    """A command, and what is shown below it."""

    command: str
    shown: str


def steps(page: str) -> Iterator[Step]:
    """Yield every command behind a prompt."""
    for block in code_blocks(page, "console"):
        for typed in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, shown = typed.partition("\n")
            yield Step(command, shown)


def as_printed(shown: str) -> re.Pattern[str]:
    """Return what fits all that may be printed where this is shown."""
    found, end = "", 0
    for part in VARIES.finditer(shown):
        found += re.escape(shown[end : part.start()]) + PATTERNS[str(part.lastgroup)]
        end = part.end()
    return re.compile(found + re.escape(shown[end:]), re.DOTALL)


@dataclass
class Terminals:
    """A user's: one to type into, and one for each thing that goes on."""

    folder: Path
    env: dict[str, str]
    servers: dict[str, subprocess.Popen[bytes]] = field(
        default_factory=dict[str, subprocess.Popen[bytes]]
    )

    def work_through(self, page: Path) -> None:
        """Save the page's programs, type all of its commands; AssertionError names what differs."""
        text = page.read_text("utf-8")
        for program in code_blocks(text, "python"):
            if named := re.match(r"# (\w+\.py)\n", program):
                (self.folder / named[1]).write_text(program)
        for step in steps(text):
            self._take(step)

    def end(self) -> None:
        """Stop what goes on."""
        for name in list(self.servers):
            self._ended(name, signalled=False)

    def _take(self, step: Step) -> None:
        command = self._here(PID.sub(self._pid, step.command))
        server = SERVER.match(command)
        shown = step.shown or ("..." if server else "")  # What a server logs is not shown.
        pattern = as_printed(self._here(shown).strip())
        if server:
            self._start(server[1], command)
        reads, refuses = READS.match(command), REFUSES.match(command)
        printed = ""

        def is_as_shown() -> bool:
            nonlocal printed
            code, printed = (0, self._log(server[1]).read_text()) if server else self.type(command)
            fits = code == 0 and pattern.fullmatch(printed.strip()) is not None
            assert fits or reads or (refuses and code != 0)
            return fits

        try:
            until(is_as_shown, PATIENCE_S)
        except AssertionError:
            said = f"$ {command}\n{printed}\nis shown as\n{step.shown}"
            raise AssertionError(said) from None
        for killed in PID.findall(step.command):
            self._ended(killed, signalled=True)

    def type(self, command: str) -> tuple[int, str]:
        """Return the exit code of a command, and what it prints to the terminal."""
        done = subprocess.run(
            ["sh", "-c", command],
            env=self.env,
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,
        )
        return done.returncode, done.stdout.replace("\r", "")

    def _start(self, name: str, command: str) -> None:
        with self._log(name).open("wb") as log:
            self.servers[name] = subprocess.Popen(
                ["sh", "-c", f"exec {command}"],
                env=self.env,
                cwd=self.folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _log(self, name: str) -> Path:
        return self.folder / f"{name.partition(':')[0]}.log"

    def _pid(self, found: re.Match[str]) -> str:
        """Return the pid of our own: `pgrep` would find those of others' installations, too."""
        return str(self.servers[found[1]].pid)

    def _ended(self, name: str, *, signalled: bool) -> None:
        server = self.servers.pop(name)
        if not signalled:
            server.terminate()
        server.wait(20)

    def _here(self, text: str) -> str:
        for service, port in PORTS.items():
            here = self.env[f"ORDERSTREAM_PORT_{service}"]
            text = text.replace(f"127.0.0.1:{port}", f"127.0.0.1:{here}")
        for home in HOMES:
            text = text.replace(home, self.env["ORDERSTREAM_HOME"])
        return text


def with_command(env: dict[str, str]) -> dict[str, str]:
    """Return an environment in which `orderstream` is this one, and programs print at once."""
    path = f"{Path(sys.executable).parent}:{env['PATH']}"
    return env | {"PATH": path, "PYTHONUNBUFFERED": "1"}
