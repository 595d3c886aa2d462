"""`demo` and `up` keep to what is theirs."""

import os
import subprocess
from pathlib import Path

from tests.flow.installation import COMMAND, installation

# Of an installation of the user's that is nothing like a demo's.
THEIRS = {
    "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
    "KAFKA_SASL_MECHANISM": "PLAIN",
    "KAFKA_SASL_USERNAME": "somebody",
    "KAFKA_SASL_PASSWORD": "secret",
    "KAFKA_AUTO_OFFSET_RESET": "latest",
    "ORDERSTREAM_DRILL_SKU": "MUG",
    "ORDERSTREAM_RETRY_ATTEMPTS": "10",
    "ORDERSTREAM_RETRY_BACKOFF": "3600",
}


class TestDemo:
    def test_holds_whatever_is_set_for_other_installations(self, tmp_path: Path) -> None:
        names = list(THEIRS)
        in_file, in_environment = names[::2], names[1::2]
        lines = (f"{name}={THEIRS[name]}" for name in in_file)
        (tmp_path / ".env").write_text("\n".join(lines))
        done = subprocess.run(
            [*COMMAND, "demo"],
            env=os.environ | {name: THEIRS[name] for name in in_environment},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=150,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "Everything held" in done.stdout


class TestUp:
    def test_puts_nothing_on_the_shelves_of_a_database_that_was_given(self, dsn: str) -> None:
        with installation(DATABASE_URL=dsn) as running:
            stock = running.http.get(f"{running.url('inventory')}/api/stock").json()
            assert stock["stock"] == []
