"""Hours and days are those of the zone, also where its clocks change."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orderstream.analytics.ranges import LENGTH, Cut, Range, Unit

ZONES = ("UTC", "Europe/Berlin", "Asia/Kathmandu", "America/Sao_Paulo", "Pacific/Apia")


def shown(unit: Unit, zone: str, since: str, until: str) -> list[str]:
    place = ZoneInfo(zone)
    cut = Cut(unit, place)
    of = Range(*(datetime.fromisoformat(at).replace(tzinfo=place) for at in (since, until)))
    return [cut.shown(at) for at in cut.starts(of)]


class TestStarts:
    def test_a_day_is_a_day_of_the_zone(self) -> None:
        assert shown(Unit.DAY, "Asia/Kathmandu", "2026-11-21T10:00", "2026-11-22T10:00") == [
            "2026-11-21T00:00:00.000+05:45",
            "2026-11-22T00:00:00.000+05:45",
        ]

    def test_the_end_is_not_in_it(self) -> None:
        assert len(shown(Unit.DAY, "Europe/Berlin", "2026-11-21", "2026-11-22")) == 1

    def test_an_hour_that_comes_twice_is_two(self) -> None:
        assert shown(Unit.HOUR, "Europe/Berlin", "2026-10-25T01:30", "2026-10-25T04:00") == [
            "2026-10-25T01:00:00.000+02:00",
            "2026-10-25T02:00:00.000+02:00",
            "2026-10-25T02:00:00.000+01:00",
            "2026-10-25T03:00:00.000+01:00",
        ]

    def test_an_hour_that_is_passed_over_is_none(self) -> None:
        hours = shown(Unit.HOUR, "Europe/Berlin", "2026-03-29T01:00", "2026-03-29T04:00")
        assert [hour[11:13] for hour in hours] == ["01", "03"]

    def test_days_are_as_long_as_the_zone_has_them(self) -> None:
        cut = Cut(Unit.DAY, ZoneInfo("Europe/Berlin"))
        of = Range(datetime(2026, 3, 28, tzinfo=cut.zone), datetime(2026, 3, 31, tzinfo=cut.zone))
        hours = [(b - a) / timedelta(hours=1) for a, b in pairwise(cut.starts(of))]
        assert hours == [24, 23]

    @pytest.mark.parametrize(
        ("zone", "since", "until", "days"),
        [
            ("America/Sao_Paulo", "2018-11-03", "2018-11-06", ["03T00", "04T01", "05T00"]),
            ("Pacific/Apia", "2011-12-29", "2012-01-01", ["29T00", "31T00"]),
        ],
    )
    def test_a_midnight_or_a_day_that_is_passed_over_begins_nothing_twice(
        self, zone: str, since: str, until: str, days: list[str]
    ) -> None:
        assert [day[8:13] for day in shown(Unit.DAY, zone, since, until)] == days

    @given(
        st.sampled_from(ZONES),
        st.sampled_from([Unit.HOUR, Unit.DAY]),
        st.timedeltas(timedelta(0), timedelta(days=25 * 365)),
        st.timedeltas(timedelta(0), timedelta(days=20)),
    )
    def test_they_ascend_cover_the_range_and_are_cut_alike_from_wherever_it_begins(
        self, zone: str, unit: Unit, after: timedelta, length: timedelta
    ) -> None:
        cut, since = Cut(unit, ZoneInfo(zone)), datetime(2005, 1, 1, tzinfo=UTC) + after
        starts = cut.starts(Range(since, since + length))
        assert starts[0] <= since
        assert all(a < b for a, b in pairwise(starts))
        assert starts[-1] < max(since + length, since + timedelta(microseconds=1))
        assert starts[-1] + 2 * LENGTH[unit] > since + length
        middle = since + length / 2
        assert set(cut.starts(Range(middle, since + length))) <= set(starts)


class TestUnits:
    def test_say_how_many_there_are(self) -> None:
        of = Range(datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 3, 0, 30, tzinfo=UTC))
        assert [of.units(unit) for unit in Unit] == [2 * 1440 + 30, 49, 3]
