"""Crashes a loop between any two of its calls, and starts it again as a supervisor would.

For tests: ours of the loop, and those of a user's own consumers (testing.py).
"""

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from psycopg import Connection

from orderstream.contract.errors import Fenced, TransactionAborted, Unavailable
from orderstream.runtime.broker_memory import MemoryBroker, MemorySink, MemorySource
from orderstream.runtime.database import Database
from orderstream.runtime.loop import Loop
from orderstream.runtime.stage import Output, Partition, Positions, Record

ROUNDS_MAX = 200


class Crash(BaseException):
    """The process is killed: nothing of ours may catch this."""


@dataclass
class Script:
    """Counts the calls of a loop, and raises `fault` at one of them: before it, or after it.

    The calls are those of the ports, and the begin and commit of a database transaction.
    """

    at: int | None = None
    after: bool = False
    fault: type[BaseException] = Crash
    names: list[str] = field(default_factory=list[str])
    fired: str | None = None

    @contextmanager
    def call(self, name: str) -> Generator[None]:
        here = len(self.names) == self.at
        self.names.append(name)
        if here and not self.after:
            self.fired = name
            raise self.fault(f"before {name}")
        yield
        if here and self.after:
            self.fired = name
            raise self.fault(f"after {name}")


class ScriptedSource:
    def __init__(self, inner: MemorySource, script: Script) -> None:
        self._inner = inner
        self._script = script

    def poll(self, records_max: int, wait_s: float, linger_s: float) -> Sequence[Record]:
        with self._script.call("poll"):
            return self._inner.poll(records_max, wait_s, linger_s)

    def hold(self, partition: Partition, offset: int) -> None:
        with self._script.call("hold"):
            self._inner.hold(partition, offset)

    def release(self, partition: Partition) -> None:
        with self._script.call("release"):
            self._inner.release(partition)

    def rewind(self) -> None:
        with self._script.call("rewind"):
            self._inner.rewind()

    def show_progress(self, positions: Positions) -> None:
        with self._script.call("show_progress"):
            self._inner.show_progress(positions)

    def close(self) -> None:
        self._inner.close()


class ScriptedSink:
    """Throws its producer away after a fault, as KafkaSink does."""

    def __init__(self, broker: MemoryBroker, group: str, script: Script) -> None:
        self._broker = broker
        self._group = group
        self._script = script
        self._inner: MemorySink | None = None

    @contextmanager
    def _call(self, name: str) -> Generator[MemorySink]:
        try:
            with self._script.call(name):
                if self._inner is None:
                    self._inner = MemorySink(self._broker, f"{self._group}-0", self._group)
                yield self._inner
        except (TransactionAborted, Unavailable):
            self._inner = None
            raise

    def ready(self) -> None:
        with self._call("ready") as inner:
            inner.ready()

    def begin(self) -> None:
        with self._call("begin") as inner:
            inner.begin()

    def produce(self, output: Output) -> None:
        with self._call("produce") as inner:
            inner.produce(output)

    def send_offsets(self, positions: Positions) -> None:
        with self._call("send_offsets") as inner:
            inner.send_offsets(positions)

    def commit(self) -> None:
        with self._call("commit") as inner:
            inner.commit()

    def abort(self) -> None:
        with self._call("abort") as inner:
            inner.abort()

    def send(self, outputs: Sequence[Output]) -> None:
        with self._call("send") as inner:
            inner.send(outputs)

    def close(self) -> None: ...


class ScriptedDatabase(Database):
    """A database whose transactions can be cut off before and after their commit."""

    script: Script = Script()

    @contextmanager
    def transaction(self) -> Generator[Connection]:
        with self.script.call("database begin"):
            pass
        with super().transaction() as connection:
            yield connection
            if _about_to(self.script, "database commit"):
                raise self.script.fault("before database commit")
        with self.script.call("database commit"):
            pass


def _about_to(script: Script, name: str) -> bool:
    """Tell whether the next call is to fail before it is made; then it counts as made."""
    if len(script.names) == script.at and not script.after:
        script.names.append(name)
        script.fired = name
        return True
    return False


def run_until_idle(
    make_loop: Callable[[], Loop], script: Script, rounds_max: int = ROUNDS_MAX
) -> Script:
    """Run a loop until it has read everything, made and started again after each crash.

    Raises AssertionError, with the last fault for its cause, when it does not get there.
    """
    idle = 0
    recovering = True
    loop: Loop | None = None
    last: BaseException | None = None
    for _ in range(rounds_max):
        try:
            if loop is None:
                loop = make_loop()
                recovering = True
            if recovering:
                loop.recover()
                recovering = False
            idle = idle + 1 if loop.step() == 0 else 0
        except (Crash, Fenced) as error:
            loop, last = None, error
        except (TransactionAborted, Unavailable) as error:
            recovering, last = True, error
        if idle == 2:
            return script
    raise AssertionError(f"not idle after {rounds_max} rounds: {last}") from last
