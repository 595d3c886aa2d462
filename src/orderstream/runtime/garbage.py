"""Python's search for garbage, which costs a service more than what it finds."""

import gc


def spare_garbage() -> None:
    """Search for garbage seldom, and never in what is here for good: call it before work begins.

    Nearly all that a batch makes is freed by its reference counts. Python's default looks through
    it every 700 objects, and at times through all modules: as much work as the batch itself.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(200_000, 20, 20)
