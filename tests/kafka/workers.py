"""Stages that run in threads, as their services run them."""

from contextlib import ExitStack
from threading import Thread

from orderstream.flow import SCHEMAS
from orderstream.inventory.store_postgres import PostgresStock
from orderstream.runtime.admin import Admin
from orderstream.runtime.database import Database
from orderstream.runtime.observe import StageMetrics
from orderstream.runtime.settings import Settings
from orderstream.wiring.stages import stage_loop, stage_parts


class Worker:
    """One worker of a stage: its loop, in a thread, until it is stopped or has to stop."""

    def __init__(self, settings: Settings, number: int = 0, name: str = "inventory") -> None:
        settings = settings.model_copy(update={"worker": number})
        self._database = Database(settings.dsn(), SCHEMAS[name])
        stage = stage_parts(name, settings, self._database).stage
        self._loop = stage_loop(stage, settings, self._database, StageMetrics(f"{name}-{number}"))
        self.ended_with: BaseException | None = None
        self._stopped = False
        self._thread = Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._loop.run()
        except BaseException as error:  # noqa: BLE001 - told to the test
            self.ended_with = error

    @property
    def ended(self) -> bool:
        return not self._thread.is_alive()

    def has_joined(self, settings: Settings) -> bool:
        """Tell whether its group has committed where it begins."""
        lags = Admin(settings.kafka()).lag(
            settings.group("inventory"), [settings.topics.order_created]
        )
        return all(lag.committed is not None for lag in lags)

    def stop(self) -> None:
        """Stop after the batch in hand, as at a SIGTERM. May be called again."""
        if self._stopped:
            return
        self._stopped = True
        self._loop.stop()
        self._thread.join(30)
        assert self.ended
        self._loop.close()
        self._database.close()


class Workers:
    """Starts workers, and stops them all when the test is over."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack

    def start(self, settings: Settings, number: int = 0, name: str = "inventory") -> Worker:
        worker = Worker(settings, number, name)
        self._stack.callback(worker.stop)
        return worker


def stock(settings: Settings, **on_hand: int) -> None:
    """Put goods on the shelf."""
    database = Database(settings.dsn(), "inventory")
    PostgresStock(database).set_on_hand(list(on_hand.items()))
    database.close()


def reserved_of(settings: Settings, sku: str) -> int:
    """Return how many pieces are set aside."""
    database = Database(settings.dsn(), "inventory")
    try:
        level = PostgresStock(database).level(sku)
        return level.reserved if level else 0
    finally:
        database.close()
