"""docs/tutorial.md, typed by somebody who does what it says, from an empty folder on."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.flow.installation import own_environment
from tests.flow.typed import Terminals, as_printed, with_command
from tests.homes import own_home
from tests.test_documented import DOCS


@pytest.fixture
def terminals(tmp_path: Path) -> Iterator[Terminals]:
    with own_home() as home:
        one = Terminals(tmp_path, with_command(own_environment(home)))
        with ExitStack() as at_the_end:
            for server in ("kafka", "db"):
                at_the_end.callback(one.type, f"orderstream {server} stop")
            at_the_end.callback(one.end)
            yield one


@pytest.mark.timeout(400)  # Some forty commands and six services, one after the other.
def test_everything_prints_what_is_written_below_it(terminals: Terminals) -> None:
    terminals.work_through(DOCS / "tutorial.md")


class TestWhatIsShown:
    """The comparison itself can fail."""

    def test_is_what_has_to_be_printed(self) -> None:
        assert as_printed("2 lost").fullmatch("2   lost")
        assert not as_printed("2 lost").fullmatch("3 lost")

    def test_times_and_long_numbers_may_be_others(self) -> None:
        shown = "at 2026-11-22T04:28:22.710Z, 1.5 s: order 100000001, ..."
        printed = "at 2027-01-02T03:04:05Z, 20.25 s: order 7, that is all"
        assert as_printed(shown).fullmatch(printed)
        assert not as_printed(shown).fullmatch(printed.replace("order", "record"))

    def test_a_line_of_dots_may_be_any_number_of_lines(self) -> None:
        shown = as_printed("...\n1003 ada\n...")
        for printed in ("1003 ada", "a\nb\n1003 ada", "1003 ada\nc", "a\n1003 ada\nb\nc"):
            assert shown.fullmatch(printed)
        for printed in ("x1003 ada", "1003 adam", "a\nb"):
            assert not shown.fullmatch(printed)
        assert as_printed("a\n...\nb").fullmatch("a\nb")
        assert not as_printed("a\n...\nb").fullmatch("ab")
