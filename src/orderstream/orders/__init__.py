"""1: accept an order: an HTTP request becomes OrderCreated on Kafka, or a refusal with reasons."""
