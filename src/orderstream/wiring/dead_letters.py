"""The dead letters, for those who put them right."""

from orderstream.dead_letters.desk import DeadLetters
from orderstream.runtime.clock import utc_now
from orderstream.runtime.settings import Settings


def dead_letters(settings: Settings) -> DeadLetters:
    """Return the dead letters of the cluster."""
    return DeadLetters(settings.kafka(), settings.topics, settings.kafka_group_id, utc_now)
