"""Orders as a stream of events on Apache Kafka: never lost, never doubled, never oversold."""

__version__ = "0.1.0"
