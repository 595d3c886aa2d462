"""`verify`: proves or disproves that no order was lost, doubled or oversold."""

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from orderstream.cli import settings
from orderstream.cli.app import app, errors

if TYPE_CHECKING:
    from orderstream.audit.report import Report


@app.command()
def verify(
    wait: Annotated[
        float, typer.Option(min=0, help="Seconds to wait for orders that are under way.")
    ] = 30.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Hold the log and every store against the promises; exit 1 unless all of them hold."""
    import msgspec

    from orderstream.audit.verify import verify as audit

    current = settings.load_resolved()
    with _progress_bar() as progress:
        report = audit(current, wait_s=wait, progress=progress)
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(report)).decode())
    else:
        _print(report)
    sys.exit(0 if report.proven else 1)


@contextmanager
def _progress_bar() -> Generator[Callable[[str, int, int], None]]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=errors,
        transient=True,
        disable=not errors.is_terminal,
    )
    tasks: dict[str, int] = {}

    def show(step: str, done: int, total: int) -> None:
        if step not in tasks:
            for task in tasks.values():
                bar.update(bar.tasks[task].id, visible=False)
            tasks[step] = bar.add_task(step, total=total)
        bar.update(bar.tasks[tasks[step]].id, completed=done, total=total)

    with bar:
        yield show


def _print(report: "Report") -> None:
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    out = Console(highlight=False)
    table = Table("check", "what holds", "result", box=box.SIMPLE_HEAD, header_style="bold")
    table.add_column("seconds", justify="right")
    for check in report.checks:
        result = "[green]ok[/]"
        if check.undecided:
            result = f"[yellow]undecided[/]: {escape(check.undecided)}"
        elif check.found:
            result = f"[red]{check.found:,} violations[/]"
        table.add_row(check.name, check.sentence, result, f"{check.seconds:.2f}")
    out.print(table)
    for found in report.violations:
        order = f" order {found.order_id}" if found.order_id is not None else ""
        place = f" {found.topic}[{found.partition}] offset {found.offset}" if found.topic else ""
        out.print(
            f"[red]{found.kind}[/]{escape(f'{order}{place}: {found.detail}')}", soft_wrap=True
        )
    listed = len(report.violations)
    total = sum(report.counts.values())
    if total > listed:
        out.print(f"... and {total - listed:,} more; the first of each kind are listed.")
    for entry in report.behind:
        out.print(
            f"[yellow]still under way[/] {escape(entry.group)} reads on in"
            f" {escape(entry.topic)}\\[{entry.partition}] at {entry.next:,},"
            f" up to {entry.offsets:,} offsets from its end",
            soft_wrap=True,
        )
    said = ", ".join(f"{count:,} {name}" for name, count in report.outcomes.items())
    out.print(
        f"{report.orders:,} orders ({said}) in {report.records:,} records,"
        f" {report.seconds:.1f} s: [bold]{_verdict(report)}[/]"
    )


def _verdict(report: "Report") -> str:
    if report.violated:
        return "[red]the promises are broken[/]"
    if report.behind:
        return "[yellow]nothing broken, but not all of it is read yet[/]"
    if not report.proven:
        return "[yellow]nothing broken, but not all can be decided[/]"
    return "[green]every promise holds[/]"
