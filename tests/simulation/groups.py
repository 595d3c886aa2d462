"""Kafka's consumer groups: static members, cooperative rebalances, generations.

A partition goes to its next owner only when the one before has given it up, or was thrown out
because its heartbeats stopped.
"""

from collections.abc import Callable
from typing import Protocol

from orderstream.runtime.stage import Partition, Positions
from tests.simulation.schedule import Process, Schedule


class Member(Protocol):
    """A consumer, as its coordinator knows it."""

    instance: str
    process: Process


class Ticket:
    """A member as it is in one generation: what offsets are committed with."""

    __slots__ = ("generation", "instance", "member")

    def __init__(self, member: Member | None, instance: str, generation: int) -> None:
        self.member = member
        self.instance = instance
        self.generation = generation


class Group:
    """One consumer group."""

    def __init__(self, schedule: Schedule, name: str, partitions: list[Partition]) -> None:
        self.name = name
        self.generation = 0
        self.members: dict[str, Member] = {}
        self.target: dict[Partition, str] = {}
        self.owner: dict[Partition, str] = {}
        self.committed: Positions = {}
        self.rebalances = 0
        self.went_back: Callable[[Partition, int, int], None] = lambda *_: None
        self._partitions = partitions
        self._schedule = schedule
        self._expected: dict[Partition, int] = {}

    # Members -------------------------------------------------------------------------------

    def join(self, member: Member) -> None:
        """Let a member in; one that is there under the same name is fenced, and replaced as is."""
        known = member.instance in self.members
        self.members[member.instance] = member
        if not known:
            self._rebalance()
            return
        # Its successor has nothing in hand yet: what it is to have it takes when it polls.
        left = [at for at, who in self.owner.items() if who == member.instance]
        self.owner = {at: who for at, who in self.owner.items() if who != member.instance}
        if any(self.target.get(at) != member.instance for at in left):
            self.generation += 1

    def leave(self, instance: str) -> None:
        """Throw a member out: what it had is free at once."""
        del self.members[instance]
        self.owner = {at: who for at, who in self.owner.items() if who != instance}
        self._rebalance()

    def gave_up(self, partitions: list[Partition]) -> None:
        """A member revoked these; the group comes together again to hand them on."""
        for at in partitions:
            self.owner.pop(at, None)
        self.generation += 1

    def ticket(self, member: Member) -> Ticket:
        """Return the member's state as of now; one that was thrown out has none."""
        if member.instance not in self.members:
            return Ticket(None, member.instance, -1)
        return Ticket(member, member.instance, self.generation)

    def objection(self, ticket: object) -> str | None:
        """Say why offsets may not be committed with this ticket, or None."""
        assert isinstance(ticket, Ticket)
        if ticket.generation < 0 and not (self.members and ticket.instance):
            return None  # Taken for a consumer that is in no group, as Kafka does.
        member = self.members.get(ticket.instance)
        if member is None:
            return "MEMBER"
        if member is not ticket.member:
            return "INSTANCE"
        return None if ticket.generation == self.generation else "GENERATION"

    def _rebalance(self) -> None:
        self.generation += 1
        self.rebalances += 1
        names = sorted(self.members)
        if not names:
            self.target = {}
            return
        most = -(-len(self._partitions) // len(names))
        load = dict.fromkeys(names, 0)
        target: dict[Partition, str] = {}
        free: list[Partition] = []
        for at in self._partitions:
            who = self.target.get(at, "")
            if load.get(who, most) < most:
                target[at] = who
                load[who] += 1
            else:
                free.append(at)
        for at in free:
            who = min(names, key=lambda name: load[name])
            target[at] = who
            load[who] += 1
        self.target = target
        self._schedule.note("coordinator", f"{self.name}: generation {self.generation}, {names}")

    # Offsets -------------------------------------------------------------------------------

    def expect(self, at: Partition, change: int) -> None:
        """Count transactions that have an offset for the partition and no end yet."""
        self._expected[at] = self._expected.get(at, 0) + change

    def is_stable(self, at: Partition) -> bool:
        """Tell whether no transaction might still change the offset."""
        return not self._expected.get(at, 0)

    def commit(self, at: Partition, offset: int) -> None:
        """Keep an offset."""
        before = self.committed.get(at, 0)
        if offset < before:
            self.went_back(at, before, offset)
        self.committed[at] = offset
