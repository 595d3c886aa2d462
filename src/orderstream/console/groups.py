"""Consumer groups: who is in them, how far they are, and where they shall read on."""

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from threading import Lock
from typing import Any

from orderstream.console.cluster import Cluster
from orderstream.contract.errors import Malformed, OrderstreamError, Unavailable
from orderstream.readers import past_markers
from orderstream.runtime.admin import Admin, Lag
from orderstream.runtime.log_reader import LogReader
from orderstream.runtime.replay import Plan, Target
from orderstream.runtime.stage import Positions

MARKERS_NEAR = 2  # Offsets that a list looks at for being but the ends of transactions.
_GOAL = re.compile(r"beginning|end|\d{1,18}|@\d{1,15}|[+-]\d{1,18}")


class UnknownGroup(OrderstreamError):
    """There is no such group."""


class Unsuitable(OrderstreamError):
    """This cannot be done to this group as it is."""


@dataclass(frozen=True)
class Replays:
    """What has one of our own services read again: a plan, and doing it while it is held back.

    Their offsets are beside their rows or in the transactions of their results, so that what Kafka
    shows of them is not all there is to set.
    """

    plan: Callable[[str, Target], Plan]
    run: Callable[[str, Target], Plan]


class GroupDesk:
    """The groups of a cluster. Every method raises Unavailable."""

    def __init__(
        self,
        config: Mapping[str, Any],
        group: str,
        services: Mapping[str, str],
        replays: Replays,
        cluster: Cluster,
        own: Callable[[], Mapping[str, str]] = dict,
    ) -> None:
        """`services` are ours by their group, `own` the consumers of a user's own."""
        self._services = dict(services)
        self._replays = replays
        self._own = own
        self._admin = Admin(dict(config))
        self._cluster = cluster
        self._new_log = partial(LogReader, config, group)
        self._log: LogReader | None = None
        self._one_at_a_time = Lock()  # Of those who ask the log.

    def close(self) -> None:
        """Let go of the connections."""
        if self._log is not None:
            self._log.close()

    def every(self) -> list[dict[str, Any]]:
        """Return every group with its state, members and lag in all."""
        return [
            {
                "group": group["group"],
                "service": group["service"],
                "own": group["own"],
                "state": group["state"],
                "members": len(group["members"]),
                "topics": sorted({one["topic"] for one in group["partitions"]}),
                "behind": sum(one["behind"] for one in group["partitions"]),
            }
            for group in self._shown(sorted(self._admin.groups()), MARKERS_NEAR)
        ]

    def show(self, group: str) -> dict[str, Any]:
        """Return one group: its members, and where it is in each partition."""
        self._known(group)
        (shown,) = self._shown([group])
        return shown

    def _known(self, group: str) -> None:
        if group not in self._admin.groups():
            raise UnknownGroup(f"there is no group {group}")

    def _shown(self, groups: Sequence[str], near: int | None = None) -> list[dict[str, Any]]:
        """Ask of all groups at once who is in them, where they are, and what is left to read."""
        own = self._own()
        described = self._admin.describe_groups(groups)
        there = self._admin.partitions()
        places = {
            group: {at: n for at, n in found.items() if n >= 0 and at[1] < there.get(at[0], 0)}
            for group, found in self._committed(groups).items()
        }
        ends = self._admin.ends({at for found in places.values() for at in found})
        lags = [
            Lag(group, *at, offset, ends[at])
            for group, found in places.items()
            for at, offset in sorted(found.items())
        ]
        with self._one_at_a_time:
            self._log = self._log or self._new_log()
            lags = past_markers(lags, self._log, near)
        of: dict[str, list[Lag]] = {group: [] for group in groups}
        for lag in lags:
            of[lag.group].append(lag)
        return [self._one(group, described[group], of[group], own) for group in groups]

    def _committed(self, groups: Sequence[str]) -> dict[str, Positions]:
        try:
            return self._cluster.committed(groups)
        except Unavailable:
            if len(groups) == 1:
                return {groups[0]: self._admin.committed(groups[0])}
        # One that we may not see hides no other; nor does a broker that kafka-python does not know.
        found: dict[str, Positions] = {}
        for group in groups:
            with suppress(Unavailable):
                found[group] = self._admin.committed(group)
        return found

    def _one(
        self,
        group: str,
        described: tuple[str, list[dict[str, Any]]] | Unavailable,
        lags: Sequence[Lag],
        own: Mapping[str, str],
    ) -> dict[str, Any]:
        state, members = (
            (str(described), list[dict[str, Any]]())
            if isinstance(described, Unavailable)
            else described
        )
        owners = {tuple(at): m["client"] for m in members for at in m["partitions"]}
        return {
            "group": group,
            "service": self._services.get(group) or own.get(group),
            "own": group in own,
            "state": state,
            "members": members,
            "partitions": [
                {
                    "topic": lag.topic,
                    "partition": lag.partition,
                    "committed": lag.committed,
                    "end": lag.end,
                    "behind": lag.behind,
                    "member": owners.get((lag.topic, lag.partition)),
                }
                for lag in lags
            ],
        }

    def reset(self, group: str, topic: str | None, to: str, *, dry_run: bool) -> dict[str, Any]:
        """Set where a group reads on, or say what that would do.

        `to` is `beginning`, `end`, an offset, a time as `@MILLISECONDS`, or so many on or back as
        `+10` and `-10`. One of our own services is stopped for it, a user's consumer must
        not run; either only goes back. Raises Malformed; Unsuitable while others' groups have
        members.
        """
        if not _GOAL.fullmatch(to):
            raise Malformed("is beginning, end, an offset, @MILLISECONDS, +COUNT or -COUNT", "to")
        service = self._services.get(group) or self._own().get(group)
        if service is not None:
            if topic is not None:
                raise Malformed(f"{service} reads all of its topics again, not one", "topic")
            return self._replay(service, to, dry_run=dry_run)
        self._known(group)
        committed = {
            at: offset
            for at, offset in self._admin.committed(group).items()
            if topic in (None, at[0])
        }
        if not committed:
            raise Unsuitable(f"{group} has committed nothing{f' of {topic}' if topic else ''}")
        goals = self._goals(to, committed)
        _, members = self._admin.group(group)
        if members and not dry_run:
            raise Unsuitable(
                f"{group} has {len(members)} members: Kafka allows it only while it is empty"
            )
        if not dry_run:
            self._admin.set_committed(group, goals)
        return _moved(committed, goals, done=not dry_run, members=len(members))

    def _goals(self, to: str, committed: Positions) -> Positions:
        first, ends = self._admin.begins(committed), self._admin.ends(committed)
        if to == "beginning":
            goals = first
        elif to == "end":
            goals = ends
        elif to.startswith("@"):
            goals = ends | self._admin.at_time(committed, int(to[1:]))
        elif to[0] in "+-":
            goals = {at: offset + int(to) for at, offset in committed.items()}
        else:
            goals = dict.fromkeys(committed, int(to))
        return {at: min(max(goal, first[at]), ends[at]) for at, goal in goals.items()}

    def _replay(self, service: str, to: str, *, dry_run: bool) -> dict[str, Any]:
        if to == "beginning":
            target = Target()
        elif to.startswith("@"):
            target = Target(time_ms=int(to[1:]))
        elif to.isdigit():
            target = Target(offset=int(to))
        else:
            raise Malformed(
                f"{service} can go back to the beginning, a time or an offset: what it has not read"
                " is never passed over",
                "to",
            )
        plan = (self._replays.plan if dry_run else self._replays.run)(service, target)
        before = {(move.topic, move.partition): move.before for move in plan.moves}
        goals = {(move.topic, move.partition): move.to for move in plan.moves}
        return _moved(before, goals, done=not dry_run, members=0) | {
            "service": service,
            "rebuild": plan.rebuild,
        }


def _moved(before: Positions, goals: Positions, *, done: bool, members: int) -> dict[str, Any]:
    return {
        "done": done,
        "members": members,
        "partitions": [
            {"topic": topic, "partition": number, "from": offset, "to": goals[topic, number]}
            for (topic, number), offset in sorted(before.items())
        ],
    }
