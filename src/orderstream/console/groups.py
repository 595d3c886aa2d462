"""Consumer groups: who is in them, how far they are, and where they shall read on."""

import re
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from orderstream.contract.errors import Malformed, OrderstreamError
from orderstream.readers import past_markers
from orderstream.runtime.admin import Admin, Lag
from orderstream.runtime.log_reader import LogReader
from orderstream.runtime.replay import Plan, Target
from orderstream.runtime.stage import Positions

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
        own: Callable[[], Mapping[str, str]] = dict,
    ) -> None:
        """`services` are ours by their group, `own` the consumers of a user's own."""
        self._config = dict(config)
        self._group = group
        self._services = dict(services)
        self._replays = replays
        self._own = own
        self._admin = Admin(self._config)

    def every(self) -> list[dict[str, Any]]:
        """Return every group with its state, members and lag in all."""
        own = self._own()
        with closing(LogReader(self._config, self._group)) as log:
            return [self._in_short(name, log, own) for name in sorted(self._admin.groups())]

    def _in_short(self, name: str, log: LogReader, own: Mapping[str, str]) -> dict[str, Any]:
        group: dict[str, Any]
        try:
            group = self._shown(name, log, own)
        except OrderstreamError as error:  # One that we may not see hides no other.
            group = {"group": name, "service": None, "own": False, "state": str(error)}
            group |= {"members": [], "partitions": []}
        return {
            "group": group["group"],
            "service": group["service"],
            "own": group["own"],
            "state": group["state"],
            "members": len(group["members"]),
            "topics": sorted({one["topic"] for one in group["partitions"]}),
            "behind": sum(one["behind"] for one in group["partitions"]),
        }

    def show(self, group: str) -> dict[str, Any]:
        """Return one group: its members, and where it is in each partition."""
        self._known(group)
        with closing(LogReader(self._config, self._group)) as log:
            return self._shown(group, log, self._own())

    def _known(self, group: str) -> None:
        if group not in self._admin.groups():
            raise UnknownGroup(f"there is no group {group}")

    def _shown(self, group: str, log: LogReader, own: Mapping[str, str]) -> dict[str, Any]:
        state, members = self._admin.group(group)
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
                for lag in self._lags(group, log)
            ],
        }

    def _lags(self, group: str, log: LogReader) -> list[Lag]:
        committed = self._admin.committed(group)
        ends = self._admin.ends(committed)
        lags = [Lag(group, *at, offset, ends[at]) for at, offset in sorted(committed.items())]
        return past_markers(lags, log)

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
