"""One order service for all tests that leave it as they found it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import database_copy, own_settings
from tests.kafka.topics import create
from tests.orders.service import OrderService


@pytest.fixture(scope="package")
def service(
    kafka: str, template_dsn: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OrderService]:
    folder: Path = tmp_path_factory.mktemp("order")
    with database_copy(template_dsn) as dsn:
        service = OrderService(create(own_settings(kafka, dsn)), folder)
        service.start()
        yield service
        service.end()
        service.http.close()
