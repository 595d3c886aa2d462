"""A real PostgreSQL behind TLS: nobody gets in without it, nor without a password.

The PostgreSQL that comes as a package is built without TLS, so what it lacks stands before it: it
answers libpq's request for TLS as a server does, and passes on what it decrypts.
"""

import asyncio
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from orderstream.local import postgres
from tests.ports import own_port
from tests.security.certificates import Certificates
from tests.stream_server import served

USER = "shop"
PASSWORD = "database-password-97"

_HBA = "local all postgres trust\nlocal all all scram-sha-256\n"
_TLS_PLEASE = bytes.fromhex("0000000804d2162f")
_SOCKET = ".s.PGSQL.5432"


@contextmanager
def secure_postgres(home: Path, certificates: Certificates) -> Iterator[str]:
    """Give the DSN of a database of USER's own; who connects checks the server's certificate."""
    dsn = postgres.start(home).dsn
    try:
        with psycopg.connect(dsn, autocommit=True) as admin:
            admin.execute(f"CREATE ROLE {USER} LOGIN CREATEROLE PASSWORD '{PASSWORD}'")
            admin.execute(f"CREATE DATABASE {USER} OWNER {USER}")
            (postgres.status(home).data / "pg_hba.conf").write_text(_HBA)
            admin.execute("SELECT pg_reload_conf()")
        folder = Path(str(conninfo_to_dict(dsn)["host"]))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificates.certificate("server"), certificates.key("server"))
        port = own_port()
        with _encrypting(folder / _SOCKET, port, context):
            yield make_conninfo(
                host="127.0.0.1",
                port=port,
                dbname=USER,
                user=USER,
                password=PASSWORD,
                sslmode="verify-full",
                sslrootcert=str(certificates.authority),
            )
    finally:
        postgres.stop(home)


@contextmanager
def _encrypting(socket: Path, port: int, context: ssl.SSLContext) -> Iterator[None]:
    """Pass on to the socket what comes to the port by TLS."""

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers = [writer]
        try:
            if await reader.readexactly(len(_TLS_PLEASE)) == _TLS_PLEASE:
                writer.write(b"S")
                await writer.start_tls(context)
                inner_reader, inner_writer = await asyncio.open_unix_connection(str(socket))
                writers.append(inner_writer)
                await asyncio.gather(_pass_on(reader, inner_writer), _pass_on(inner_reader, writer))
        except (OSError, asyncio.IncompleteReadError):
            pass  # A connection that a test breaks off.
        finally:
            for one in writers:
                one.transport.abort()

    with served(client, port):
        yield


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
        writer.close()
