"""How any stage runs: Kafka, PostgreSQL, clocks, settings, health. Knows no orders."""
