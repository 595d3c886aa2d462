"""3a: tell the customer, once per event and channel."""
