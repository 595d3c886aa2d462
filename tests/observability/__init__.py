"""What a service shows of itself: logs and metrics."""
