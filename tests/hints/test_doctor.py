"""What `doctor` makes of the Redis that is set: well, away, silent, or one that refuses us."""

from collections.abc import Iterator

import pytest

from orderstream.cli.doctor import Finding, check_redis
from orderstream.runtime.settings import Settings
from tests.own_redis import OwnRedis
from tests.ports import own_port
from tests.waiting import until

WITHOUT_IT = "everything works without it, slower"


def findings(url: str) -> list[Finding]:
    return list(check_redis(Settings.load({"REDIS_URL": url})))


@pytest.fixture
def with_password(redis: OwnRedis) -> Iterator[str]:
    """The address of a Redis that wants the password `swordfish`, `%s` in that password's place."""
    redis.client.config_set("requirepass", "swordfish")
    yield f"redis://:%s@127.0.0.1:{redis.port}/0"
    redis.client.execute_command("AUTH", "swordfish")
    redis.client.config_set("requirepass", "")


class TestRedis:
    def test_that_is_not_set_is_not_looked_for(self) -> None:
        assert list(check_redis(Settings.load({}))) == []

    def test_that_answers_is_well(self, redis: OwnRedis) -> None:
        assert findings(redis.url) == [Finding("ok", "Redis", "answers")]

    def test_that_is_away_is_a_warning(self) -> None:
        (found,) = findings(f"redis://127.0.0.1:{own_port()}/0")
        assert (found.state, found.said) == ("warn", f"Redis is away: {WITHOUT_IT}")
        assert "REDIS_URL" in found.todo

    def test_that_says_nothing_is_a_warning(self, hanging: str) -> None:
        (found,) = findings(hanging)
        assert (found.state, found.said) == ("warn", f"Redis is away: {WITHOUT_IT}")

    @pytest.mark.parametrize("password", ["tuna", ""])
    def test_that_refuses_the_password_is_a_warning_that_says_so(
        self, with_password: str, password: str
    ) -> None:
        (found,) = findings(with_password % password)
        said = f"Redis refuses the password: {WITHOUT_IT}"
        assert (found.state, found.said) == ("warn", said)

    def test_that_takes_the_password_is_well(self, with_password: str) -> None:
        well = [Finding("ok", "Redis", "answers")]  # A busy machine may take longer than it may.
        until(lambda: findings(with_password % "swordfish") == well)

    def test_that_may_answer_us_nothing_is_a_warning_that_says_so(self, redis: OwnRedis) -> None:
        redis.client.execute_command("ACL SETUSER nobody on >tuna -@all")
        try:
            (found,) = findings(f"redis://nobody:tuna@127.0.0.1:{redis.port}/0")
        finally:
            redis.client.execute_command("ACL DELUSER nobody")
        assert found.state == "warn"
        assert found.said == f"Redis answers with an error, NoPermissionError: {WITHOUT_IT}"
