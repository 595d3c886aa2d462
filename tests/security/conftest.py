"""Servers that these tests share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.homes import own_home
from tests.security.brokers import SecureKafka
from tests.security.certificates import Certificates
from tests.security.databases import secure_postgres


@pytest.fixture(scope="package")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates.make(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="package")
def secure_kafka(
    certificates: Certificates, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SecureKafka]:
    folder: Path = tmp_path_factory.mktemp("kafka")
    with SecureKafka(folder, certificates).running() as kafka:
        yield kafka


@pytest.fixture(scope="package")
def secure_dsn(certificates: Certificates) -> Iterator[str]:
    with own_home() as home, secure_postgres(home, certificates) as dsn:
        yield dsn
