"""The console with API keys, and with every service away: who gets in, and what it says."""

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx
import pytest

from orderstream.console.sessions import COOKIE
from orderstream.flow import SERVICES
from orderstream.runtime.keys import new_key
from orderstream.runtime.settings import Settings
from tests.conftest import own_settings
from tests.orders.service import environment
from tests.ports import own_port
from tests.security.running import serving
from tests.waiting import until

KEYS = {role: new_key(f"the-{role}", role) for role in ("client", "viewer", "operator")}


@dataclass
class Alone:
    """Where it is, and a browser for each role."""

    url: str
    settings: Settings

    @contextmanager
    def browser(self, role: str | None = None) -> Generator[httpx.Client]:
        with httpx.Client(base_url=self.url, trust_env=False, timeout=30) as client:
            if role is not None:
                answer = client.post("/console/session", json={"key": KEYS[role][0]})
                assert answer.status_code == 200, answer.text
            yield client


@pytest.fixture(scope="module")
def alone(
    kafka: str, template_dsn: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Alone]:
    ports = {
        f"ORDERSTREAM_PORT_{name.upper()}": str(port)
        for port, name in enumerate((*SERVICES, "console"), own_port())
    }
    keys = ",".join(str(entry) for _, entry in KEYS.values())
    settings = own_settings(kafka, template_dsn, ORDERSTREAM_API_KEYS=keys, **ports)
    url = settings.address("console")
    folder = tmp_path_factory.mktemp("console")
    with serving(environment(settings), {"console": url}, folder):
        yield Alone(url, settings)


class TestSigningIn:
    def test_is_needed_for_all_but_the_page(self, alone: Alone) -> None:
        with alone.browser() as nobody:
            assert nobody.get("/").status_code == 200
            assert nobody.get("/static/app.js").status_code == 200
            assert nobody.get("/console/session").json() == {
                "needed": True,
                "name": None,
                "role": None,
            }
            for path in ("/console/overview", "/console/topics", "/services/order/api/orders"):
                assert nobody.get(path).status_code == 401

    def test_with_a_wrong_key_is_refused(self, alone: Alone) -> None:
        with alone.browser() as nobody:
            wrong = nobody.post("/console/session", json={"key": "orderstream_wrong"})
            assert (wrong.status_code, "set-cookie" in wrong.headers) == (401, False)

    def test_gives_a_cookie_that_no_script_and_no_other_site_gets(self, alone: Alone) -> None:
        with alone.browser() as client:
            answer = client.post("/console/session", json={"key": KEYS["viewer"][0]})
            cookie = answer.headers["set-cookie"]
            assert cookie.startswith(f"{COOKIE}=")
            assert "HttpOnly" in cookie
            assert "SameSite=strict" in cookie
            assert KEYS["viewer"][0] not in answer.text + cookie
            assert client.get("/console/overview").status_code == 200

    def test_ends_with_signing_out(self, alone: Alone) -> None:
        with alone.browser("operator") as client:
            cookie = client.cookies[COOKIE]
            assert client.delete("/console/session").status_code == 200
            again = {"cookie": f"{COOKIE}={cookie}"}
            assert httpx.get(f"{alone.url}/console/overview", headers=again).status_code == 401


class TestRoles:
    def test_a_viewer_looks_and_does_nothing(self, alone: Alone) -> None:
        with alone.browser("viewer") as viewer:
            assert viewer.get("/console/topics").status_code == 200
            for method, path in (
                ("POST", "/console/topics/x/records"),
                ("POST", "/console/groups/x/reset"),
                ("POST", "/services/order/api/orders"),
                ("PUT", "/services/inventory/api/stock/MUG"),
            ):
                body = {"to": "end"} if path.endswith("reset") else {}
                assert viewer.request(method, path, json=body).status_code == 403

    def test_a_client_has_no_business_here(self, alone: Alone) -> None:
        with alone.browser() as nobody:
            answer = nobody.post("/console/session", json={"key": KEYS["client"][0]})
            assert (answer.status_code, "set-cookie" in answer.headers) == (403, False)

    def test_a_key_in_a_header_is_handed_on(self, alone: Alone) -> None:
        signed = {"authorization": f"Bearer {KEYS['viewer'][0]}"}
        answer = httpx.get(f"{alone.url}/services/order/api/orders", headers=signed)
        assert (answer.status_code, "order is away" in answer.text) == (503, True)

    def test_a_page_of_others_may_not_act_for_an_operator(self, alone: Alone) -> None:
        with alone.browser("operator") as operator:
            foreign = {"origin": "https://evil.example"}
            answer = operator.post("/services/order/api/orders", json={}, headers=foreign)
            assert answer.status_code == 403


class TestWithEverythingAway:
    def test_it_says_what_is_away_and_serves_what_is_not(self, alone: Alone) -> None:
        with alone.browser("operator") as operator:
            health = until(lambda: operator.get("/console/overview").json()["health"])
            for service in SERVICES:
                assert health[service] == {
                    "up": False,
                    "says": f"{service} is away: nothing listens at its address",
                }
            answer = operator.get("/services/order/api/orders")
            assert (answer.status_code, "order is away" in answer.json()["detail"]) == (503, True)
            assert answer.headers["retry-after"]
            assert operator.get("/console/topics").status_code == 200

    def test_an_act_whose_end_nobody_knows_stands_in_the_audit_log(self, alone: Alone) -> None:
        with alone.browser("operator") as operator:
            path = "/services/inventory/api/stock/MUG"
            assert operator.put(path, json={"onHand": 5}).status_code == 503
            entries = operator.get("/console/audit").json()["entries"][:2]
            assert [(e["who"], e["target"], e["result"]) for e in entries] == [
                ("the-operator", "/api/stock/MUG", "unknown"),
                ("the-operator", "/api/stock/MUG", "asked"),
            ]


class TestTheAuditLog:
    @pytest.mark.parametrize("topic", ["{audit}", "__consumer_offsets"])
    def test_is_written_by_nobody_else(self, alone: Alone, topic: str) -> None:
        topic = topic.format(audit=alone.settings.topic_audit)
        with alone.browser("operator") as operator:
            answer = operator.post(f"/console/topics/{topic}/records", json={"value": "{}"})
            assert answer.status_code == 409


class TestThePage:
    def test_may_load_nothing_from_elsewhere_and_run_nothing_inline(self, alone: Alone) -> None:
        policy = httpx.get(alone.url).headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self';" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy

    @pytest.mark.parametrize(
        "path",
        ["/static/%2e%2e/api.py", "/static/..%2f..%2freaders.py", "/static/no"],
    )
    def test_gives_no_other_file(self, alone: Alone, path: str) -> None:
        assert httpx.get(alone.url + path).status_code == 404

    def test_has_no_documentation_with_scripts_of_others(self, alone: Alone) -> None:
        with alone.browser("operator") as operator:
            assert operator.get("/docs").status_code == 404

    @pytest.mark.parametrize(
        "path",
        [
            "/services/order/readyz",
            "/services/nobody/api/x",
            "/services/order%2Fapi%2F@127.0.0.1:1/x",
            "/services/order/api/..%2f..%2freadyz",
            "/services/order/api/%2e%2e/readyz",
            "/services/order%2fapi/x",
            "/services/order@127.0.0.1/api/x",
        ],
    )
    def test_passes_nothing_on_but_apis(self, alone: Alone, path: str) -> None:
        with alone.browser("viewer") as viewer:
            assert viewer.get(path).status_code == 404
