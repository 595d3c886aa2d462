"""What Java is taught by is the order flow in small."""

from orderstream.local.exercise import exercise
from tests.conftest import own_settings
from tests.kafka.topics import read


class TestTheExercise:
    def test_puts_every_record_and_answers_none_twice(self, kafka: str, template_dsn: str) -> None:
        put = exercise(kafka, 3.0)
        settings = own_settings(kafka, template_dsn)
        assert len(read(settings, "orders")) == put > 0
        assert 0 < len(read(settings, "results")) <= put
