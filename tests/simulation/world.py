"""One world: the cluster, the stores, the workers of every stage, and what happens to them."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from random import Random
from typing import Any, cast

from psycopg import Connection

from orderstream.analytics.stage import analytics_stage
from orderstream.contract.errors import Fenced
from orderstream.inventory.stage import inventory_stage
from orderstream.notification.rules import Notice
from orderstream.notification.stage import notification_stage
from orderstream.order_view.stage import view_stage
from orderstream.runtime import broker_kafka, pairing
from orderstream.runtime import loop as loop_module
from orderstream.runtime.broker_kafka import KafkaSink, KafkaSource
from orderstream.runtime.clock import to_epoch_ms
from orderstream.runtime.failure import DUE, RetryPolicy
from orderstream.runtime.loop import Loop
from orderstream.runtime.observe import StageMetrics
from orderstream.runtime.stage import Batch, Keeps, Output, Partition, Stage
from tests.builders import NOON
from tests.simulation import clients
from tests.simulation.cluster import Cluster
from tests.simulation.database import Rows, SimulatedDatabase, SimulatedPositions
from tests.simulation.groups import Group
from tests.simulation.schedule import Process, Schedule, SimulatedTime, here
from tests.simulation.stores import SimulatedCounts, SimulatedNotices, SimulatedStock, SimulatedView
from tests.simulation.workload import DRILL, TOPICS, Workload

STAGES = ("inventory", "view", "notification", "analytics")
POINTS_MAX = 60_000


@dataclass(frozen=True)
class Engine:
    """What runs in a world; a mutation replaces a part of it."""

    loop: type[Loop] = Loop
    source: type[KafkaSource] = KafkaSource
    sink: type[KafkaSink] = KafkaSink
    positions: type[SimulatedPositions] = SimulatedPositions
    stock: type[SimulatedStock] = SimulatedStock
    stage: Callable[[Stage, "World"], Stage] = lambda stage, _world: stage


class Violation(Exception):
    """A promise was broken."""


class Told:
    """The channel: remembers every notice that it was handed."""

    name = "told"

    def __init__(self) -> None:
        self.ids: dict[str, int] = {}

    def tell(self, notices: Any, now: object) -> None:
        assert now
        for notice in notices:
            assert isinstance(notice, Notice)
            here().point(f"tell {notice.event_id}")
            self.ids[notice.event_id] = self.ids.get(notice.event_id, 0) + 1


class Stopping:
    """Stands for the loop's threading.Event: nobody waits in real time here."""

    def __init__(self) -> None:
        self._is_set = False

    def set(self) -> None:
        self._is_set = True

    def is_set(self) -> bool:
        return self._is_set

    def wait(self, seconds: float) -> None:
        here().sleep(seconds)


class _Silent:
    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_args, **_more: None


_METRICS = StageMetrics("simulated")


class World:
    """Made from a seed: the same seed makes the same world, step by step."""

    def __init__(self, seed: int, engine: Engine | None = None, *, keep_all: bool = False) -> None:
        random = Random(seed)
        self.seed = seed
        self.engine = engine or Engine()
        self.schedule = Schedule(random, keep_all=keep_all)
        self.cluster = Cluster(self.schedule, random.randint(1, 3))
        self.violations: list[str] = []
        self.rows = {name: Rows(self.schedule, name) for name in STAGES}
        self.policy = RetryPolicy(random.choice((0, 1, 2, 2, 2)), random.choice((0, 300, 1000)))
        self.records_max = random.choice((1, 3, 8, 8))
        self.skew_s_max = random.choice((0.0, 0.0, 1.5))
        self.told = Told()
        self.workload = Workload(self.schedule, self.cluster, self.rows["inventory"])
        self.stages = {name: self._stage(name) for name in STAGES}
        for name, stage in self.stages.items():
            group = Group(self.schedule, f"g-{name}", self.cluster.partitions_of(stage.reads))
            if stage.keeps is Keeps.OFFSETS_IN_KAFKA:
                group.went_back = self._went_back
            self.cluster.groups[group.name] = group
            self.rows[name].on_broken = self.violated
        self.slots = [(name, n) for name in STAGES for n in range(random.choice((1, 2, 2, 3)))]

    def violated(self, what: str) -> None:
        """Note that a promise was broken."""
        self.schedule.note("VIOLATION", what)
        self.violations.append(what)

    def run(self) -> None:
        """Live through the faults, then until nothing is left to do; check all the while."""
        from tests.simulation.invariants import check, watch

        watch(self)
        schedule = self.schedule
        for slot in self.slots:
            schedule.after(schedule.chance() * 0.5, lambda slot=slot: self._start(*slot))
        enough = schedule.random.choice((200, 600, 1500))
        with simulated_modules():
            try:
                schedule.run(
                    lambda: (
                        bool(self.violations)
                        or (schedule.points > enough and not self.workload.left)
                    ),
                    POINTS_MAX,
                )
                if not self.violations:
                    self._calm_down()
                    if not schedule.run(self._is_over, POINTS_MAX):
                        self.violated("it does not come to rest")
            finally:
                schedule.end()
        if not self.violations:
            check(self)
        if self.violations:
            raise Violation("\n".join(self.violations[:20]))

    def _calm_down(self) -> None:
        self.schedule.calm = True
        self.schedule.note("world", "no more faults from here on")
        for process in self.schedule.processes:
            process.wakes_at = self.schedule.now

    def _is_over(self) -> bool:
        return bool(self.violations) or (
            not self.schedule.under_way
            and not self.cluster.has_open()
            and all(self._is_done(stage) for stage in self.stages.values())
        )

    def _is_done(self, stage: Stage) -> bool:
        return all(
            not self.cluster.read(at, self.position(stage, at), 1)[0]
            for at in self.cluster.partitions_of(stage.reads)
        )

    def position(self, stage: Stage, at: Partition) -> int:
        """Return the offset that the stage goes on from."""
        if stage.keeps is Keeps.OFFSETS_IN_STORE:
            return self.rows[stage.name].committed.get(("position", at), 0)
        return self.cluster.groups[f"g-{stage.name}"].committed.get(at, 0)

    def _went_back(self, at: Partition, before: int, after: int) -> None:
        self.violated(f"inventory's offset of {at} went back from {before} to {after}")

    # Processes -----------------------------------------------------------------------------

    def _start(self, name: str, number: int) -> None:
        schedule = self.schedule
        stopping = Stopping()

        def body() -> None:
            loop = self._loop(name, number)
            cast(Any, loop)._stopping = stopping
            try:
                loop.run()
                loop.close()
            except Fenced as error:
                schedule.note(here().name, f"fenced: {error}")

        def ended() -> None:
            if not process.replaced:
                schedule.after(schedule.chance() * 2.0, lambda: self._start(name, number))

        process = schedule.start(f"{name}-{number}", body, ended)
        process.stopping = stopping
        process.on_pause = lambda: self._replace(process, name, number)

    def _replace(self, process: Process, name: str, number: int) -> None:
        """Take a stopped process for dead, and start another in its place."""
        if not process.replaced and self.schedule.chance() < self.schedule.rates.twin:
            self.schedule.fault(process.name, "taken for dead and started again")
            process.replaced = True
            process.name += "-zombie"
            self._start(name, number)

    def _loop(self, name: str, number: int) -> Loop:
        stage, engine = self.stages[name], self.engine
        group = f"g-{name}"
        database = SimulatedDatabase(self.rows[name])
        in_store = stage.keeps is Keeps.OFFSETS_IN_STORE
        positions = engine.positions(database) if in_store else None
        config: dict[str, Any] = {"bootstrap.servers": self.cluster}
        source = engine.source(config, group, number, list(stage.reads), starts=positions)
        skew = timedelta(seconds=self.skew_s_max * self.schedule.chance())
        schedule = self.schedule
        return engine.loop(
            stage,
            group,
            source,
            engine.sink(config, f"{group}-{number}", source.generation),
            database,
            clock=lambda: NOON + skew + timedelta(seconds=schedule.now),
            policy=self.policy,
            dead_letter_suffix=TOPICS.dead_letter_suffix,
            metrics=_METRICS,
            records_max=self.records_max,
            positions=positions,
        )

    def _stage(self, name: str) -> Stage:
        match name:
            case "inventory":
                stage = inventory_stage(cast(Any, self.engine.stock()), TOPICS, DRILL)
            case "view":
                stage = view_stage(cast(Any, SimulatedView()), TOPICS, "g-inventory")
            case "notification":
                notices = cast(Any, SimulatedNotices())
                stage = notification_stage(
                    notices, cast(Any, self.told), ["mail"], TOPICS, "g-inventory"
                )
            case _:
                stage = analytics_stage(cast(Any, SimulatedCounts()), TOPICS, "g-inventory")
        stage = self.engine.stage(stage, self)
        handle = stage.handle

        def watched(batch: Batch, tx: Connection) -> Any:
            self._check_due(batch)
            outputs: list[Output] = list(handle(batch, tx))
            return outputs

        # Nobody lingers: only those who are awake at the same moment can get in each other's way.
        # A full batch makes a stage busy, so that records are kept back for what follows them.
        return replace(stage, handle=watched, linger_s=(0.0, 0.0), busy_records=self.records_max)

    def _check_due(self, batch: Batch) -> None:
        if self.skew_s_max:
            return  # What is due by one clock may not be by another.
        now_ms = to_epoch_ms(batch.now)
        for record, _ in batch:
            for name, value in record.headers() or ():
                if name == DUE:
                    early_ms = int.from_bytes(value, "big", signed=True) - now_ms
                    if 0 < early_ms <= self.policy.backoff_ms:
                        self.violated(f"{record.key()} was tried again {early_ms} ms early")


@contextmanager
def simulated_modules() -> Generator[None]:
    """Have the real engine use the simulated librdkafka and clock, and log nothing."""
    changes: tuple[tuple[Any, str, Any], ...] = (
        (broker_kafka, "Consumer", clients.Consumer),
        (broker_kafka, "Producer", clients.Producer),
        (broker_kafka, "time", SimulatedTime),
        (broker_kafka, "log", _Silent()),
        (loop_module, "log", _Silent()),
        (loop_module, "monotonic", SimulatedTime.monotonic),
        (pairing, "MANY", 2),  # So that a topic that is ahead waits for the other.
    )
    before = [(module, name, getattr(module, name)) for module, name, _ in changes]
    for module, name, value in changes:
        setattr(module, name, value)
    try:
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)
