"""PostgreSQL takes what ``ingest deploy cluster`` prints for it."""

import re
from contextlib import closing

import pytest

from ..support.command import Command
from ..support.postgres import PostgresServer

pytestmark = pytest.mark.cluster


def test_postgresql_takes_every_setting(command: Command, postgres_server: PostgresServer) -> None:
    import psycopg

    text = command("deploy", "cluster", "ingest-postgresql.conf").stdout
    settings = re.findall(r"^#?(\w+) = (.+)$", text, re.MULTILINE)
    assert len(settings) > 10
    with closing(psycopg.connect(postgres_server.url("postgres").text, autocommit=True)) as connection:
        try:
            for name, value in settings:
                connection.execute(f"ALTER SYSTEM SET {name} = '{value.strip(chr(39))}'")  # which looks at it
        finally:
            connection.execute("ALTER SYSTEM RESET ALL")
