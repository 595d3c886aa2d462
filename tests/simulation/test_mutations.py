"""The simulation bites: an engine that is broken in one place does not get through."""

import pytest

from tests.simulation.mutations import MUTATIONS
from tests.simulation.world import Engine, Violation, World


def first_broken(engine: Engine, seeds: range) -> int | None:
    """Return the first seed whose world breaks a promise with this engine."""
    for seed in seeds:
        try:
            World(seed, engine).run()
        except Violation:
            return seed
    return None


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", MUTATIONS)
class TestABrokenEngine:
    def test_is_noticed(self, name: str) -> None:
        mutation = MUTATIONS[name]
        seed = first_broken(mutation.engine, mutation.seeds)
        assert seed is not None, f"{mutation.what}: not noticed in {mutation.seeds}"
        World(seed).run()  # With the engine as it is, the same world keeps its promises.
