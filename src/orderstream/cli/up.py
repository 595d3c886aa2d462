"""`up`: everything on this machine, until Ctrl-C."""

import json
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

from orderstream.cli import settings as cli_settings
from orderstream.cli.app import app
from orderstream.contract.errors import ConfigurationError, Unavailable
from orderstream.flow import CONSOLE, PROGRAMS, SERVICES
from orderstream.local.processes import ProcessId
from orderstream.runtime.settings import Settings

READY_TIMEOUT_S = 60.0
SERVERS_LOOK_EVERY_S = 1.0
COLOURS = ("cyan", "green", "magenta", "yellow", "blue", "bright_cyan", "bright_green")

console = Console(highlight=False)


@dataclass
class Running:
    """A whole installation that is up: its settings, and a way to end it."""

    settings: Settings
    stop: Callable[[], None]
    supervise: Callable[[threading.Event], None]
    seconds: float


@app.command()
def up(
    brokers: Annotated[int, typer.Option(help="Local Kafka brokers: 1 or 3.")] = 1,
    workers: Annotated[
        list[str] | None,
        typer.Option(help="More workers of a service: inventory=2. May be repeated."),
    ] = None,
    demo: Annotated[
        bool, typer.Option("--demo", help="Place an order every second, to have some to look at.")
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", help="Show no log lines of the services.")
    ] = False,
) -> None:
    """Start Kafka, PostgreSQL and every service here; restart what dies; Ctrl-C stops it all."""
    stopping = set_by_signals()
    show = show_nothing if quiet else Shower()
    given = cli_settings.mapping()
    with everything(given, brokers, parse_workers(workers or []), show, stopping) as running:
        if not stopping.is_set():
            greet(running)
            if demo:
                from orderstream.cli.demo import keep_placing

                placing = (running.settings, stopping)
                threading.Thread(target=keep_placing, args=placing, daemon=True).start()
            running.supervise(stopping)
        console.print("\n[bold]Stopping[/] ...")
    console.print("Stopped. Your data is kept in", str(running.settings.home), soft_wrap=True)


def set_by_signals() -> threading.Event:
    """Return an event that Ctrl-C, SIGTERM and the terminal's end set, whatever we are just doing.

    Python runs a handler in the midst of what the main thread does. Set there, the event would wait
    for its own lock where the main thread holds it on its way to wait: for ever. So a thread sets
    it, and the handler only does what may be interrupted by itself.
    """
    stopping, told = threading.Event(), SimpleQueue[int]()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _frame: told.put(number))

    def wait_for_one() -> None:
        told.get()
        stopping.set()

    threading.Thread(target=wait_for_one, name="signals", daemon=True).start()
    return stopping


@contextmanager
def everything(
    given: Mapping[str, str],
    brokers: int,
    workers: dict[str, int],
    show: Callable[[str, str], None],
    stopping: threading.Event,
) -> Generator[Running]:
    """Bring everything up by these settings, and down again at the end, whatever happens.

    What ran before is left running. Raises ConfigurationError or Unavailable when it does not
    come up; then everything started is ended first.
    """
    from orderstream.local.guard import Guard
    from orderstream.local.holding import is_held_back
    from orderstream.local.processes import free_port
    from orderstream.local.supervisor import Supervisor
    from orderstream.runtime.logs import configure_logs
    from orderstream.wiring.demo import load_demo_catalogue
    from orderstream.wiring.setup import prepare

    configure_logs("up", "WARNING", human=True)
    began = time.monotonic()
    wanted = Settings.load(given)
    wanted.home.mkdir(parents=True, exist_ok=True)
    guard = Guard()
    supervisor = Supervisor(guard, show)
    servers = _Servers(given, wanted, guard, brokers)
    try:
        with _only_one(wanted.home):
            taken = [
                f"ORDERSTREAM_PORT_{name.upper()}: port {port} is taken on this machine;"
                " end what uses it, or choose another"
                for name in PROGRAMS
                if free_port(port := wanted.port(name)) != port
            ]
            if taken:
                raise ConfigurationError(*taken)
            settings = servers.start()
            logs = settings.home / "logs"

            def keep(name: str, worker: int) -> None:
                port = settings.port(name)
                label = name if worker == 0 else f"{name}-{worker}"
                supervisor.keep(
                    label,
                    [sys.executable, "-m", "orderstream", "serve", name],
                    _environment(
                        given,
                        settings,
                        name,
                        worker,
                        port if worker == 0 else free_port(port + 100),
                    ),
                    logs / f"{label}.log",
                    partial(is_held_back, settings.home, name),
                )

            for name in SERVICES:
                for worker in range(workers.get(name, 1)):
                    keep(name, worker)
            prepare(settings, "inventory")
            if wanted.database_url is None:  # Nobody else's shelves.
                load_demo_catalogue(settings)
            _wait_until_ready(settings, SERVICES, supervisor, stopping)
            keep(CONSOLE, 0)  # Orders are taken already: it looks on.
            _wait_until_ready(settings, (CONSOLE,), supervisor, stopping)
            servers.warm_up()

            def supervise(until: threading.Event) -> None:
                supervisor.run(until, also=servers.look)

            yield Running(settings, stopping.set, supervise, time.monotonic() - began)
    finally:
        with ExitStack() as last:  # Each is done, whatever becomes of those before.
            last.callback(guard.close)
            last.callback(servers.stop)
            last.callback(supervisor.stop)


class _Servers:
    """The local Kafka and PostgreSQL, where no others are set; started again when they die."""

    def __init__(
        self, given: Mapping[str, str], settings: Settings, guard: Any, brokers: int
    ) -> None:
        self._given = given
        self._settings = settings
        self._guard = guard
        self._brokers = brokers
        self._kafka_mine = self._postgres_mine = False
        self._look_at = 0.0
        self._healing: threading.Thread | None = None
        self._warming: ProcessId | None = None

    def start(self) -> Settings:
        """Start both at the same time; return the settings with their addresses."""
        from orderstream.local import kafka, postgres

        settings, found = self._settings, dict[str, str]()
        with ThreadPoolExecutor(2) as pool:
            database = None
            if settings.database_url is None:
                self._postgres_mine = not postgres.status(settings.home).running
                database = pool.submit(postgres.start, settings.home)
            if settings.kafka_bootstrap_servers is None:
                self._kafka_mine = not kafka.status(settings.home).running
                with fetching() as progress:
                    status = kafka.start(
                        settings.home,
                        brokers=self._brokers,
                        port=settings.port_kafka,
                        progress=progress,
                    )
                found["KAFKA_BOOTSTRAP_SERVERS"] = status.bootstrap_servers
            if database is not None:
                found["DATABASE_URL"] = database.result().dsn
        self._watch()
        return Settings.load({**self._given, **found})

    def _watch(self) -> None:
        from orderstream.local import kafka, postgres

        if self._kafka_mine:
            for pid in kafka.status(self._settings.home).pids:
                self._guard.watch(pid)
        if self._postgres_mine:
            pid = postgres.status(self._settings.home).pid
            if pid is not None:
                self._guard.watch(pid, signal.SIGINT)  # PostgreSQL's fast shutdown.

    def look(self) -> None:
        """Start again what of ours has died; returns at once."""
        if time.monotonic() < self._look_at or (self._healing and self._healing.is_alive()):
            return
        self._look_at = time.monotonic() + SERVERS_LOOK_EVERY_S
        from orderstream.local import kafka, postgres

        home = self._settings.home
        dead = (self._kafka_mine and not kafka.status(home).running) or (
            self._postgres_mine and not postgres.status(home).running
        )
        if dead:
            self._healing = threading.Thread(target=self._heal, daemon=True)
            self._healing.start()

    def _heal(self) -> None:
        from orderstream.local import kafka, postgres

        try:
            if self._postgres_mine:
                postgres.start(self._settings.home)
            if self._kafka_mine:
                kafka.start(
                    self._settings.home, brokers=self._brokers, port=self._settings.port_kafka
                )
            self._watch()
        except (ConfigurationError, Unavailable) as error:
            console.print(f"[red]a server does not come back:[/] {escape(str(error))}")

    def warm_up(self) -> None:
        """Make the next start of Kafka quicker, beside everything else."""
        from orderstream.local import warm_up

        if self._kafka_mine:
            self._warming = warm_up.begin(self._settings.home)
        if self._warming is not None:
            self._guard.watch(self._warming.pid)

    def stop(self) -> None:
        """End what we started."""
        from orderstream.local import kafka, postgres
        from orderstream.local.processes import end

        if self._warming is not None:
            end([self._warming], with_signal=signal.SIGTERM, within_s=5)

        if self._healing is not None:
            self._healing.join(15)
        with ThreadPoolExecutor(2) as pool:
            ending: list[Future[bool]] = []
            if self._kafka_mine:
                ending.append(pool.submit(kafka.stop, self._settings.home))
            if self._postgres_mine:
                ending.append(pool.submit(postgres.stop, self._settings.home))
        for one in ending:
            if error := one.exception():
                console.print(f"[red]a server may run still:[/] {escape(str(error))}")


@contextmanager
def _only_one(home: Path) -> Generator[None]:
    """Hold the place of the one `up` of this data folder. Raises ConfigurationError."""
    import fcntl

    with (home / "up.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigurationError(
                f"`orderstream up` runs already with ORDERSTREAM_HOME {home}"
            ) from None
        yield


@contextmanager
def fetching() -> Generator[Callable[[int, int], None]]:
    """Show a progress bar while Kafka's jars are fetched; nothing when they are there."""
    with Progress(
        TextColumn("Fetching Apache Kafka, once"),
        BarColumn(),
        DownloadColumn(),
        console=console,
        transient=True,
    ) as bar:
        task: list[Any] = []

        def progress(done: int, total: int) -> None:
            if not task:
                task.append(bar.add_task("jars", total=total))
            bar.update(task[0], completed=done, total=total)

        yield progress


def _environment(
    given: Mapping[str, str], settings: Settings, name: str, worker: int, port: int
) -> dict[str, str]:
    return {
        **given,
        "KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers or "",
        "DATABASE_URL": settings.dsn(),
        "ORDERSTREAM_HOME": str(settings.home),
        "ORDERSTREAM_WORKER": str(worker),
        f"ORDERSTREAM_PORT_{name.upper()}": str(port),
        "PYTHONUNBUFFERED": "1",
    }


def _wait_until_ready(
    settings: Settings, names: Sequence[str], supervisor: Any, stopping: threading.Event
) -> None:
    """Return once these are ready. Raises Unavailable with what is not."""
    import httpx

    waiting = dict.fromkeys(names, "does not answer yet")
    deadline = time.monotonic() + READY_TIMEOUT_S
    done = threading.Event()
    watching = threading.Thread(target=supervisor.run, args=(done,))
    watching.start()
    try:
        with httpx.Client(timeout=2.0, trust_env=False) as client:
            while waiting and not stopping.is_set():
                for name in list(waiting):
                    try:
                        answer = client.get(settings.address(name) + "/readyz")
                    except httpx.TransportError:
                        continue
                    if answer.status_code == 200:
                        del waiting[name]
                    else:
                        waiting[name] = answer.json()["detail"]
                if waiting and time.monotonic() > deadline:
                    said = "; ".join(f"{name}: {why}" for name, why in waiting.items())
                    raise Unavailable(
                        f"not ready after {READY_TIMEOUT_S:g} s: {said}"
                        f" (logs: {settings.home / 'logs'})"
                    )
                stopping.wait(0.03 if waiting else 0)
    finally:
        done.set()
        watching.join()


def parse_workers(given: list[str]) -> dict[str, int]:
    """Read `inventory=2`. Raises ConfigurationError for another form or an unknown service."""

    counts: dict[str, int] = {}
    for text in given:
        name, _, count = text.partition("=")
        if name not in SERVICES or name == "order" or not count.isdigit() or int(count) < 1:
            raise ConfigurationError(
                f"--workers {text}: write SERVICE=NUMBER with one of"
                f" {', '.join(name for name in SERVICES if name != 'order')}"
            )
        counts[name] = int(count)
    return counts


def show_nothing(_name: str, _line: str) -> None:
    """Show no log lines."""


class Shower:
    """Shows log lines with their service's name; JSON lines become sentences."""

    def __init__(self) -> None:
        self._colours: dict[str, str] = {}

    def __call__(self, name: str, line: str) -> None:
        """Show one line."""
        colour = self._colours.setdefault(name, COLOURS[len(self._colours) % len(COLOURS)])
        console.print(f"[{colour}]{name:>12}[/] {escape(readable(line))}", soft_wrap=True)


def readable(line: str) -> str:
    """Turn an ECS JSON line into one for people; any other line stays as it is."""
    try:
        entry = json.loads(line)
        at, level = entry.pop("@timestamp")[11:23], entry.pop("log.level")
        message = entry.pop("message")
    except (ValueError, KeyError, TypeError, AttributeError):
        return line
    labels = [f"{name}={value}" for name, value in entry.get("labels", {}).items()]
    mark, where = "", ""
    if level != "info":  # What went well is told by the message.
        mark = f"{level.upper()} "
        if (order_id := entry.get("orderstream.order_id")) is not None:
            labels.insert(0, f"order={order_id}")
        if (topic := entry.get("kafka.topic")) is not None:
            where = f" at {topic}[{entry.get('kafka.partition')}]@{entry.get('kafka.offset')}"
    stack = entry.get("error.stack_trace")
    cause = f" ({stack.strip().splitlines()[-1]})" if stack else ""
    return f"{at} {mark}{message}{where}{cause} {' '.join(labels)}".rstrip()


def greet(running: Running) -> None:
    """Say that everything is up, where, and what to try first."""

    settings = running.settings
    order = settings.address("order")
    console.print(f"\n[bold green]orderstream is up[/] after {running.seconds:.1f} s\n")
    for label, where in (
        ("console", settings.address(CONSOLE)),
        ("API and its docs", f"{order}/docs"),
        *((name, settings.address(name)) for name in SERVICES[1:]),
        ("Kafka", settings.kafka_bootstrap_servers),
        ("data and logs", settings.home),
    ):
        console.print(f"  {label:<18}{where}", soft_wrap=True)
    console.print("\nPlace an order and see what became of it:\n")
    body = '{"userId":42,"items":[{"sku":"ABC-001","qty":2}]}'
    curl = f"curl -s {order}/api/orders -H 'Prefer: wait=5' -d '{body}'"
    console.print(f"  {escape(curl)}", soft_wrap=True)
    console.print("\nCtrl-C stops everything.\n")
