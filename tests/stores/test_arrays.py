"""Arrays that we write ourselves: PostgreSQL reads from them what was put in."""

from collections.abc import Sequence
from datetime import UTC, datetime

import psycopg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from orderstream.runtime.database import Database, pg_array
from tests.stores.conftest import Emptied

# Whatever PostgreSQL can keep: no NUL, no halves of a surrogate pair.
texts = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=20)
awkward = st.text(st.sampled_from("{}[],\"\\/\b\f\n\r\t\x01\x7f\x85\u2028'ué🦊 N"), max_size=12)
numbers = st.integers(-(2**63), 2**63 - 1)
times = st.datetimes(
    datetime(1900, 1, 1),  # noqa: DTZ001 - hypothesis adds the zone
    datetime(2200, 1, 1),  # noqa: DTZ001
    timezones=st.just(UTC),
)
often = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture
def database(emptied: Emptied) -> Database:
    return emptied("orders")


def read_back(database: Database, values: Sequence[object], of_type: str) -> list[object]:
    with database.transaction() as tx:
        sql = f"SELECT unnest(%s::{of_type}[])".encode()
        return [value for (value,) in tx.execute(sql, (pg_array(values),))]  # pyright: ignore[reportArgumentType]


class TestPgArray:
    @often
    @example(["NULL", None, "null", "", " ", "{}", '"', "\\", "\\n", "\n", "a,b", "\\u0041"])
    @given(st.lists(st.none() | texts | awkward, max_size=8))
    def test_texts_come_back_as_they_were(
        self, database: Database, values: list[str | None]
    ) -> None:
        assert read_back(database, values, "text") == values

    @often
    @given(st.lists(st.none() | numbers, max_size=8))
    def test_numbers_come_back_as_they_were(
        self, database: Database, values: list[int | None]
    ) -> None:
        assert read_back(database, values, "bigint") == values

    @often
    @given(st.lists(st.none() | times, max_size=8))
    def test_times_come_back_as_they_were(
        self, database: Database, values: list[datetime | None]
    ) -> None:
        assert read_back(database, values, "timestamptz") == values

    def test_booleans_come_back_as_they_were(self, database: Database) -> None:
        assert read_back(database, [True, None, False], "bool") == [True, None, False]

    def test_none_at_all_is_an_empty_array(self, database: Database) -> None:
        assert read_back(database, [], "text") == []

    def test_any_iterable_will_do(self) -> None:
        assert pg_array(text for text in ("a", "b\n")) == '{"a","b\n"}'

    def test_a_text_that_cannot_be_kept_is_the_record_s_fault(self, database: Database) -> None:
        with pytest.raises(psycopg.DataError):
            read_back(database, ["a\x00b"], "text")
