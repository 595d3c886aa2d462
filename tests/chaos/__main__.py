"""One run with its steps as they come: python -m tests.chaos --seed N --long."""

import argparse
import random
import time

from tests.chaos.run import Plan, run
from tests.chaos.schedule import long_schedule, short_schedule


def main() -> int:
    """Run what the arguments say; 1 if anything was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=random.randrange(1, 1 << 32))
    parser.add_argument("--long", action="store_true", help="every fault there is")
    parser.add_argument("--only", default="", help="only periods with this in their description")
    parser.add_argument("--rate", type=float, default=200.0, help="orders a second")
    parser.add_argument("--orders", type=int, default=0, help="go on until there are so many")
    parser.add_argument("--keep-logs", action="store_true", help="also when nothing is broken")
    asked = parser.parse_args()
    periods = (long_schedule if asked.long else short_schedule)(asked.seed)
    periods = [period for period in periods if asked.only in str(period)]
    began = time.monotonic()

    def say(line: str) -> None:
        print(f"{time.monotonic() - began:7.1f} s  {line}", flush=True)  # noqa: T201

    say(f"seed {asked.seed}, {len(periods)} periods")
    plan = Plan(asked.seed, periods, asked.rate, asked.orders, keep_logs=asked.keep_logs)
    found = run(plan, say)
    say(found.figures())
    return 1 if found.violations else 0


if __name__ == "__main__":
    raise SystemExit(main())
