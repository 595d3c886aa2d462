"""Certificates of a test's own, made by openssl: an authority, and what it has signed."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

KEY_PASSWORD = "key-password-31"


@dataclass(frozen=True)
class Certificates:
    """Files of an authority, a server on 127.0.0.1, and a client whose key has a password."""

    folder: Path

    @property
    def authority(self) -> Path:
        return self.folder / "authority.crt"

    @property
    def foreign_authority(self) -> Path:
        """One that has signed nothing."""
        return self.folder / "foreign.crt"

    def certificate(self, name: str) -> Path:
        return self.folder / f"{name}.crt"

    def key(self, name: str) -> Path:
        return self.folder / f"{name}.key"

    def both(self, name: str) -> Path:
        """Key and certificate in one file, as Kafka reads a PEM keystore."""
        path = self.folder / f"{name}.pem"
        path.write_text(self.key(name).read_text() + self.certificate(name).read_text())
        return path

    @classmethod
    def make(cls, folder: Path) -> "Certificates":
        if shutil.which("openssl") is None:
            pytest.skip("needs the openssl command")
        made = cls(folder)
        for name in ("authority", "foreign"):
            made._authority(name)
        made._signed("server", "subjectAltName=IP:127.0.0.1,DNS:localhost")
        made._signed("client", "extendedKeyUsage=clientAuth", password=KEY_PASSWORD)
        return made

    def _authority(self, name: str) -> None:
        self._openssl(
            *("req", "-x509", *_NEW_KEY, "-nodes", "-days", "2", "-subj", f"/CN={name}"),
            *("-keyout", f"{name}.key", "-out", f"{name}.crt"),
        )

    def _signed(self, name: str, extension: str, password: str | None = None) -> None:
        (self.folder / f"{name}.ext").write_text(extension)
        secret = ("-nodes",) if password is None else ("-passout", f"pass:{password}")
        self._openssl(
            *("req", "-new", *_NEW_KEY, *secret, "-subj", f"/CN={name}"),
            *("-keyout", f"{name}.key", "-out", f"{name}.csr"),
        )
        self._openssl(
            *("x509", "-req", "-in", f"{name}.csr", "-CA", "authority.crt", "-days", "2"),
            *("-CAkey", "authority.key", "-CAcreateserial", "-extfile", f"{name}.ext"),
            *("-out", f"{name}.crt"),
        )

    def _openssl(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=self.folder, check=True, capture_output=True)


_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1")
