"""What the console asks Kafka and the services for, and what it refuses."""
