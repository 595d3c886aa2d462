"""Simulated processes in one thread: who runs when, and what goes wrong, comes from one seed.

A process is a greenlet. It hands over at its points: the calls it makes to brokers and stores.
Time is a number that grows with each point, and jumps when everybody waits.
"""

import heapq
from collections import deque
from collections.abc import Callable, Sequence
from enum import Enum
from random import Random
from typing import Protocol, cast

from greenlet import getcurrent, greenlet

STEP_S_MAX = 0.004


class Killed(BaseException):
    """kill -9: nothing of ours may catch this."""


class Fate(Enum):
    """What becomes of one request."""

    DONE = "done"
    LOST = "the request was lost"
    UNANSWERED = "done, but the answer was lost"
    LATE = "it arrives after the caller gave up"


class Rates:
    """How often each fault strikes, per point or per request; a world has some of them."""

    def __init__(self, random: Random) -> None:
        some = random.choice((0.0, 0.3, 0.6, 1.0))

        def rate(often: float) -> float:
            return often * random.random() if random.random() < some else 0.0

        self.kill = rate(0.006)
        self.pause = rate(0.006)
        self.twin = rate(0.5)  # Of the pauses.
        self.request = rate(0.06)
        self.store = rate(0.03)
        self.cut_off = rate(0.6)
        self.rolling = rate(0.002)


class Stopping(Protocol):
    """What a process is told to stop by."""

    def set(self) -> None: ...


class Schedule:
    """The processes of one world, its clock, and what is to happen later."""

    def __init__(self, random: Random, *, keep_all: bool = False) -> None:
        self.random = random
        self.chance = random.random
        self.rates = Rates(random)
        self.switching = random.choice((0.03, 0.15, 0.5, 1.0))
        self.now = 0.0
        self.points = 0
        self.faults = 0
        self.calm = False
        self.under_way = 0  # What has been decided, and does not show yet.
        self.processes: list[Process] = []
        self.trace: deque[tuple[float, str, str]] = deque(maxlen=None if keep_all else 120)
        self._later: list[tuple[float, int, Callable[[], object]]] = []
        self._number = 0
        self._hub = getcurrent()

    def after(self, delay_s: float, action: Callable[[], object]) -> None:
        """Do something later, between two points of whoever runs then."""
        self._number += 1
        heapq.heappush(self._later, (self.now + delay_s, self._number, action))

    def finish(self, delay_s: float, action: Callable[[], object]) -> None:
        """Do later what is under way already: a world is not at rest before."""
        self.under_way += 1

        def finish() -> None:
            self.under_way -= 1
            action()

        self.after(delay_s, finish)

    def start(self, name: str, body: Callable[[], None], ended: Callable[[], None]) -> "Process":
        """Start a process; `ended` is called when it is gone, whatever ended it."""
        process = Process(self, self._hub, name, body, ended)
        self.processes.append(process)
        return process

    def note(self, who: str, what: str) -> None:
        """Write one line of the trace."""
        self.trace.append((self.now, who, what))

    def fault(self, who: str, what: str) -> None:
        """Count a fault, and write it into the trace."""
        self.faults += 1
        self.note(who, f"!! {what}")

    def run(self, until: Callable[[], bool], points_max: int) -> bool:
        """Let processes run until it is so, or return False when it is not after so many points."""
        end = self.points + points_max
        rounds = 0
        while self.points < end:
            while self._later and self._later[0][0] <= self.now:
                heapq.heappop(self._later)[2]()
            ready = [process for process in self.processes if process.is_ready()]
            if ready:
                process = ready[int(self.chance() * len(ready))]
                process.switch()
                if process.dead:
                    self.processes.remove(process)
                    process.ended()
            else:
                self._jump()
            rounds += 1
            if rounds % 16 == 0 and until():
                return True
        return until()

    def _jump(self) -> None:
        times = [process.wakes_at for process in self.processes]
        if self._later:
            times.append(self._later[0][0])
        if not times:
            raise AssertionError("nobody is left")
        self.now = max(self.now, min(times))

    def end(self) -> None:
        """Unwind whatever still runs."""
        self.calm = True
        self._later.clear()
        for process in self.processes:
            process.killed = True
            while not process.dead:
                process.switch()
        self.processes.clear()

    def told(self, lines_max: int = 100) -> str:
        """Write out the last lines of the trace."""
        last: Sequence[tuple[float, str, str]] = list(self.trace)[-lines_max:]
        return "\n".join(f"{now:9.4f}  {who:<18} {what}" for now, who, what in last)


class Process(greenlet):
    """One process of the operating system, from its start to its end."""

    def __init__(
        self,
        schedule: Schedule,
        hub: greenlet,
        name: str,
        body: Callable[[], None],
        ended: Callable[[], None],
    ) -> None:
        super().__init__(self._run, hub)
        self.schedule = schedule
        self.name = name
        self.ended = ended
        self.killed = False
        self.faulty = True  # Whether faults may strike it.
        self.paused = False
        self.wakes_at = 0.0
        self.cut_off_until = 0.0
        self.replaced = False
        self.stopping: Stopping | None = None
        self.on_pause: Callable[[], None] = lambda: None
        self._hub = hub
        self._body = body
        self._waits_for: Callable[[], bool] | None = None

    def _run(self) -> None:
        try:
            self._body()
        except Killed:
            self.schedule.note(self.name, "is gone")

    def is_ready(self) -> bool:
        """Tell whether it would go on now."""
        if self.killed:
            return True
        if self.schedule.now >= self.wakes_at:
            return True
        return not self.paused and self._waits_for is not None and self._waits_for()

    def point(self, what: str) -> None:
        """A place where others may come between, and where a fault may strike."""
        schedule = self.schedule
        schedule.points += 1
        schedule.now += schedule.chance() * STEP_S_MAX
        schedule.trace.append((schedule.now, self.name, what))
        if self.killed:
            raise Killed
        if self.faulty and not schedule.calm:
            drawn = schedule.chance()
            rates = schedule.rates
            if drawn < rates.kill:
                schedule.fault(self.name, "kill -9")
                raise Killed
            if drawn < rates.kill + rates.pause:
                self.pause(schedule.random.choice((0.05, 1.0, 8.0, 20.0)) * schedule.chance())
                return
            if drawn < rates.kill + rates.pause + rates.rolling and self.stopping is not None:
                schedule.fault(self.name, "told to stop")
                self.stopping.set()
        if schedule.chance() < schedule.switching:
            self._hand_over()

    def pause(self, seconds: float) -> None:
        """SIGSTOP, and SIGCONT after so long: nothing of the process runs, its heartbeats too."""
        self.schedule.fault(self.name, f"stopped for {seconds:.2f} s")
        self.paused = True
        self.wakes_at = self.schedule.now + seconds
        self.on_pause()
        self._hand_over()
        self.schedule.note(self.name, "goes on")

    def sleep(self, seconds: float) -> None:
        """Wait so long."""
        self.wakes_at = self.schedule.now + seconds
        self._hand_over()

    def wait(self, until: Callable[[], bool], seconds: float) -> bool:
        """Wait until it is so, at most so long; return whether it is."""
        if not until():
            self._waits_for = until
            self.wakes_at = self.schedule.now + seconds
            self._hand_over()
        return until()

    def fate(self, what: str, rate: float | None = None) -> Fate:
        """Decide on a request to a broker, or to a store if its rate is given."""
        schedule = self.schedule
        if schedule.calm or not self.faulty:
            return Fate.DONE
        if rate is None and schedule.now < self.cut_off_until:
            return Fate.LOST
        if schedule.chance() >= (schedule.rates.request if rate is None else rate):
            return Fate.DONE
        if schedule.chance() < schedule.rates.cut_off:
            self.cut_off_until = schedule.now + 25.0 * schedule.chance()
        fate = (Fate.LOST, Fate.UNANSWERED, Fate.LATE)[int(schedule.chance() * 3)]
        schedule.fault(self.name, f"{what}: {fate.value}")
        return fate

    def _hand_over(self) -> None:
        self._hub.switch()
        self._waits_for = None
        self.paused = False
        if self.killed:
            raise Killed


def here() -> Process:
    """Return the process that runs now."""
    return cast(Process, getcurrent())


class SimulatedTime:
    """Stands for the module `time` where code of ours measures or sleeps."""

    @staticmethod
    def monotonic() -> float:
        return here().schedule.now

    @staticmethod
    def sleep(seconds: float) -> None:
        here().sleep(seconds)
