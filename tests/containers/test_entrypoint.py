"""entrypoint.sh does with the engine what it says."""

import http.server
import subprocess
import threading
from collections.abc import Iterator

import pytest

from orderstream.runtime.settings import Settings
from tests.containers.conftest import Checkout
from tests.containers.image import TOP
from tests.programs import program

ONE, CLUSTER = "--file docker-compose.yml", "--file docker-compose-cluster.yml"


class _Ready(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/readyz" else 404)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def order_port() -> Iterator[str]:
    """The port of something that is ready, as the order service is after a while."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Ready)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield str(server.server_port)
    server.shutdown()
    server.server_close()


class TestScripts:
    @pytest.mark.parametrize("name", ["entrypoint.sh", "deploy/elk/setup.sh"])
    def test_shellcheck_finds_nothing(self, name: str) -> None:
        command = [program("shellcheck"), name]
        done = subprocess.run(
            command, cwd=TOP, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stdout
        assert (TOP / name).stat().st_mode & 0o111


class TestUp:
    def test_makes_an_env_with_passwords_and_keys_once(
        self, checkout: Checkout, order_port: str
    ) -> None:
        done = checkout.run("--up", ORDERSTREAM_PORT_ORDER=order_port)
        assert done.returncode == 0, done.stderr
        made = checkout.dotenv
        assert (checkout.folder / ".env").stat().st_mode & 0o077 == 0
        secrets = [made[f"{name}_PASSWORD"] for name in ("POSTGRES", "ELASTIC", "KIBANA")]
        assert len(set(secrets)) == 3
        assert all(secret and secret.isalnum() and len(secret) == 48 for secret in secrets)
        settings = Settings.load({k: v for k, v in made.items() if v is not None})
        keys = settings.keys()
        assert keys is not None
        caller = keys.caller([(b"x-api-key", (made["ORDERSTREAM_API_KEY"] or "").encode())])
        assert caller is not None
        assert (caller.name, caller.role) == ("desk", "operator")
        assert str(made["ORDERSTREAM_API_KEY"]) not in done.stdout + done.stderr
        again = checkout.run("--up", ORDERSTREAM_PORT_ORDER=order_port)
        assert (again.returncode, checkout.dotenv) == (0, made)

    def test_builds_the_image_where_there_is_none_and_starts(
        self, checkout: Checkout, order_port: str
    ) -> None:
        done = checkout.run("--up", ORDERSTREAM_PORT_ORDER=order_port, NO_IMAGE="1")
        assert done.returncode == 0, done.stderr
        assert checkout.asked == [
            "docker image inspect orderstream:local",
            "docker build --build-arg VERSION=0.0.0 --tag orderstream:local .",
            "docker run --rm orderstream:local keys new desk --role operator",
            f"docker compose {ONE} up --detach",
        ]
        assert f"http://127.0.0.1:{order_port}/docs" in done.stdout

    def test_leaves_what_is_set_in_the_environment_alone(
        self, checkout: Checkout, order_port: str
    ) -> None:
        own = {"POSTGRES_PASSWORD": "p", "ORDERSTREAM_API_KEYS": "k", "ORDERSTREAM_API_KEY": "k"}
        own |= {"ELASTIC_PASSWORD": "e", "KIBANA_PASSWORD": "k"}
        assert checkout.run("--up", ORDERSTREAM_PORT_ORDER=order_port, **own).returncode == 0
        assert "POSTGRES_PASSWORD" not in checkout.dotenv
        assert "ORDERSTREAM_API_KEYS" not in checkout.dotenv

    def test_says_what_is_wrong_where_only_half_a_key_is_set(self, checkout: Checkout) -> None:
        done = checkout.run("--up", ORDERSTREAM_API_KEYS="desk:operator:hash")
        assert done.returncode == 2
        assert "ORDERSTREAM_API_KEY" in done.stderr

    def test_fails_where_nothing_gets_ready(self, checkout: Checkout) -> None:
        done = checkout.run("--up", WAIT_S="1", ORDERSTREAM_PORT_ORDER="1")
        assert done.returncode == 1
        assert "--logs order" in done.stderr


class TestOthers:
    @pytest.mark.parametrize(
        ("arguments", "asked"),
        [
            ("--build", "docker build --build-arg VERSION=0.0.0 --tag orderstream:local ."),
            ("--down", f"docker compose {ONE} down"),
            ("--down --volumes", f"docker compose {ONE} down --volumes"),
            ("--logs", f"docker compose {ONE} logs --follow --tail 100"),
            ("--logs view", f"docker compose {ONE} logs --follow --tail 100 view"),
            ("--status", f"docker compose {ONE} ps"),
            ("--file cluster --status", f"docker compose {CLUSTER} ps"),
            ("--status --file redpanda", "docker compose --file docker-compose-redpanda.yml ps"),
            ("--status --file elk", f"docker compose {ONE} --file docker-compose-elk.yml ps"),
            (
                "--logs --file elk --file cluster",
                f"docker compose {CLUSTER} --file docker-compose-elk.yml logs --follow --tail 100",
            ),
        ],
    )
    def test_asks_the_engine(self, checkout: Checkout, arguments: str, asked: str) -> None:
        assert checkout.run(*arguments.split()).returncode == 0
        assert checkout.asked == [asked]

    def test_takes_the_older_compose_where_the_engine_has_none(self, checkout: Checkout) -> None:
        assert checkout.run("--status", NO_COMPOSE="1").returncode == 0
        assert checkout.asked == [f"docker-compose {ONE} ps"]

    def test_builds_the_image_that_env_names(self, checkout: Checkout) -> None:
        (checkout.folder / ".env").write_text("ORDERSTREAM_IMAGE=shop:1\n")
        assert checkout.run("--build").returncode == 0
        assert checkout.asked == ["docker build --build-arg VERSION=0.0.0 --tag shop:1 ."]

    def test_takes_another_engine(self, checkout: Checkout) -> None:
        assert checkout.run("--build", ENGINE="podman").returncode == 0
        assert checkout.asked == [
            "podman build --build-arg VERSION=0.0.0 --tag orderstream:local ."
        ]

    def test_says_what_there_is(self, checkout: Checkout) -> None:
        done = checkout.run("--help")
        assert done.returncode == 0
        for word in ("--build", "--up", "--down", "--logs", "--status", "cluster", "redpanda"):
            assert word in done.stdout
        assert checkout.asked == []

    @pytest.mark.parametrize(
        "arguments",
        [
            "",
            "--up --down",
            "--file",
            "--file x --up",
            "--upp",
            "--up --file cluster --file redpanda",
        ],
    )
    def test_refuses_what_it_does_not_know(self, checkout: Checkout, arguments: str) -> None:
        done = checkout.run(*arguments.split())
        assert done.returncode == 2
        assert done.stderr
        assert checkout.asked == []
