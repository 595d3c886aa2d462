"""`topics plan`, `configure` and `grow`: topics that are there are brought to what is set."""

from dataclasses import asdict
from time import monotonic, sleep
from typing import TYPE_CHECKING, Annotated

import typer

from orderstream.cli import settings
from orderstream.cli.output import AsJson, Yes, hint, print_json, print_json_lines, print_table
from orderstream.cli.topics import admin_of, partitions_of, topics
from orderstream.contract.errors import ConfigurationError

if TYPE_CHECKING:
    from orderstream.runtime.admin import Admin
    from orderstream.runtime.settings import Settings
    from orderstream.runtime.topic_settings import Difference

FOUND_WITHIN_S = 60.0
LOOK_EVERY_S = 0.5

DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be changed, and stop.")]


@topics.command()
def plan(as_json: AsJson = False) -> None:
    """Say where the topics of the flow are not as ORDERSTREAM_TOPIC_SETTINGS wants them.

    `topics create` makes those that are missing, `topics configure` sets what differs, and
    `topics grow` adds partitions.
    """
    current = settings.load_resolved(database=False)
    _show(_differences(current, admin_of(current)), as_json)


@topics.command()
def configure(dry_run: DryRun = False, yes: Yes = False, as_json: AsJson = False) -> None:
    """Set what ORDERSTREAM_TOPIC_SETTINGS says of topics that are there; partitions stay.

    Takes effect at once, without a restart. A shorter `retention.ms` deletes records: those that a
    service has not read yet are lost, and so is what `db reconcile` would need.
    """
    from orderstream.runtime.topic_settings import PARTITIONS

    current = settings.load_resolved(database=False)
    admin = admin_of(current)
    found = [d for d in _differences(current, admin) if d.name != PARTITIONS]
    if dry_run or not found:
        _show(found, as_json)
        return
    if not yes:
        _show(found, as_json=False)
        typer.confirm("set these?", abort=True, err=True)
    for topic in dict.fromkeys(difference.topic for difference in found):
        admin.set_config(topic, {d.name: d.wanted for d in found if d.topic == topic})
    _show(found, as_json)


@topics.command()
def grow(
    topic: Annotated[str, typer.Argument(metavar="TOPIC", help="Which one.")],
    partitions: Annotated[int, typer.Option(min=1, max=1000, help="How many it is to have.")],
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Give a topic more partitions, and its retry and dead letter topics as many.

    No record moves, and none is lost: an order is decided once, whatever partition it is in. From
    now on most keys are in another partition than before, so events of one order may be read out
    of turn while old ones lie unread: our services bear that, a program of your own may not.
    Partitions are never taken away again. Workers find new ones within half a minute, for which
    this command waits: restart none of them before.
    """
    current = settings.load_resolved(database=False)
    if current.kafka_auto_offset_reset != "earliest":
        raise ConfigurationError(
            "KAFKA_AUTO_OFFSET_RESET: what comes to a new partition before a worker finds it would"
            " be passed over: set `earliest` and restart the services first"
        )
    admin = admin_of(current)
    counts = admin.partitions()
    has = partitions_of(counts, topic)
    every = [name for name in _with_partners(current, topic) if name in counts]
    fewer = {name: counts[name] for name in every if counts[name] < partitions}
    if has > partitions:
        raise ConfigurationError(f"{topic} has {has} partitions: Kafka takes none away")
    if fewer and not dry_run:
        if not yes:
            for name, count in fewer.items():
                hint(f"{name}: {count} partitions, {partitions} from then on")
            typer.confirm("for good?", abort=True, err=True)
        admin.grow(every, partitions)
        _wait_for_readers(current, admin, every, partitions)
    if as_json:
        print_json({"done": not dry_run, "partitions": partitions, "had": fewer})
        return
    for name, count in fewer.items():
        print(f"{name}: {count} -> {partitions} partitions")
    if not fewer:
        print(f"{topic} has {has} partitions")


def _wait_for_readers(
    current: "Settings", admin: "Admin", every: list[str], partitions: int
) -> None:
    """Return when the workers that run read all partitions, or say who does not."""
    from orderstream.readers import readers

    deadline = monotonic() + FOUND_WITHIN_S
    for reader in readers(current):
        wanted = {(t, n) for t in every if t in reader.reads for n in range(partitions)}
        while wanted and (members := admin.group(reader.group)[1]):
            if not wanted - {at for member in members for at in member["partitions"]}:
                break
            if monotonic() > deadline:
                hint(f"{reader.service} does not read all of them: stop all its workers for 10 s")
                break
            sleep(LOOK_EVERY_S)


def _with_partners(current: "Settings", topic: str) -> list[str]:
    """Return a topic with those that its records go to when they fail: same key, same partition."""
    names = current.topics
    partners = [topic, names.dead_letter(topic)]
    if topic == names.order_created:
        partners.append(names.order_created_retry)
    return partners


def _differences(current: "Settings", admin: "Admin") -> "list[Difference]":
    from orderstream.runtime.topic_settings import differences

    wanted, counts = current.topics_wanted(), admin.partitions()
    there = [topic.topic for topic in wanted if topic.config and topic.topic in counts]
    config = {name: {e["name"]: e["value"] for e in admin.config_of(name)} for name in there}
    return differences(wanted, counts, {name: config.get(name, {}) for name in counts})


def _show(found: "list[Difference]", as_json: bool) -> None:
    if as_json:
        print_json_lines(asdict(difference) for difference in found)
    elif not found:
        print("every topic is as it is to be")
    else:
        rows = [(d.topic, d.name, "missing" if d.has is None else d.has, d.wanted) for d in found]
        print_table(("topic", "name", "has", "wanted"), rows)


@topics.command()
def adopt(
    lost: Annotated[
        list[str] | None,
        typer.Argument(metavar="TOPIC...", help="All that were made anew, if none is named."),
    ] = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Go on with topics that were lost and made anew; while no service runs.

    Everybody reads them from their beginning. Orders that still wait for an outcome are put in
    again, as their pages have them, and are decided once; cancellations that inventory has not
    heard of are published again. An order that no store had read is lost with its topic.
    """
    from msgspec import to_builtins

    from orderstream.recovery.guard import made_anew
    from orderstream.recovery.lost_topics import adopt as take
    from orderstream.runtime.admin import Admin
    from orderstream.wiring.replays import own_replays

    current = settings.load_resolved()
    names = lost or made_anew(current, Admin(current.kafka()))
    if names and not (dry_run or yes):
        question = f"read {', '.join(names)} from the beginning?"
        typer.confirm(question, abort=True, err=True)
    found = take(current, names, own_replays(current), dry_run=dry_run)
    if as_json:
        print_json(to_builtins(found))
        return
    print(f"{', '.join(found.topics) or 'no topic'}: {found.orders:,} orders are put in again,")
    print(f"{found.ends:,} ends of orders are published again")
    if dry_run:
        hint("nothing was changed")
