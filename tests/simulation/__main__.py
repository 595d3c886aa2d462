"""Live through one world, or many: python -m tests.simulation --seed N --trace."""

import argparse
import sys
import time

from tests.simulation.mutations import MUTATIONS
from tests.simulation.world import Engine, Violation, World


def main() -> int:
    """Run what the arguments say; 1 if a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--seeds", type=int, default=1, help="how many, one after the other")
    parser.add_argument("--trace", action="store_true", help="print every step of the world")
    parser.add_argument("--mutation", choices=sorted(MUTATIONS), help="break the engine first")
    asked = parser.parse_args()
    engine = MUTATIONS[asked.mutation].engine if asked.mutation else Engine()
    began, broken, faults, points = time.perf_counter(), 0, 0, 0
    for seed in range(asked.seed, asked.seed + asked.seeds):
        world = World(seed, engine, keep_all=asked.trace)
        try:
            world.run()
        except Violation as violation:
            broken += 1
            sys.stderr.write(f"seed {seed}: {violation}\n\n")
        finally:
            if asked.trace:
                sys.stdout.write(world.schedule.told(10**9) + "\n")
        faults += world.schedule.faults
        points += world.schedule.points
    took = time.perf_counter() - began
    sys.stdout.write(
        f"{asked.seeds} worlds, {points} steps, {faults} faults, {broken} broken,"
        f" {took:.1f} s, {1000 * took / asked.seeds:.1f} ms each\n"
    )
    return 1 if broken else 0


if __name__ == "__main__":
    raise SystemExit(main())
