"""The real engine and the real handlers in a world of one thread, made from one number."""
