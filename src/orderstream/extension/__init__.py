"""The extension point: a consumer of a user's own, run by the same loop as our services."""
