"""A broker that dies as in a power cut, under a stage that runs on."""

from orderstream.contract.errors import Fenced
from orderstream.runtime.settings import Settings
from tests.brokers import OwnKafka
from tests.builders import an_order
from tests.conftest import own_settings
from tests.kafka.topics import create, decided, names, put
from tests.kafka.workers import Worker, Workers, reserved_of, stock
from tests.waiting import until

ORDERS = [an_order(order_id=number) for number in range(1, 401)]


class TestTheBrokerKilled:
    def test_under_a_running_stage_loses_and_doubles_nothing(
        self, own_kafka: OwnKafka, dsn: str, workers: Workers
    ) -> None:
        settings = create(own_settings(own_kafka.start(), dsn, ORDERSTREAM_BATCH_RECORDS="10"))
        stock(settings, MUG=1_000)
        worker = workers.start(settings)
        put(settings, *ORDERS[:200])
        until(lambda: decided(settings), what="the stage is at work")
        own_kafka.kill()
        own_kafka.start()
        put(settings, *ORDERS[200:])
        goes_on(settings, workers, worker)
        assert decided(settings) == names(ORDERS)
        assert reserved_of(settings, "MUG") == 400


def goes_on(settings: Settings, workers: Workers, worker: Worker) -> None:
    """Wait until all is decided. A worker that has to stop is started again, as by `up`.

    It has to when its session ran out meanwhile: the broker that is back knows it as another.
    """

    def all_decided() -> bool:
        nonlocal worker
        if worker.ended:
            assert isinstance(worker.ended_with, Fenced)
            worker = workers.start(settings)
        return len(decided(settings)) >= len(ORDERS)

    until(all_decided, what="all is decided")
