"""A real Apache Kafka and a real PostgreSQL on this machine, with nothing installed by hand."""
