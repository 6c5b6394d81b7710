"""Transactions on a database that several threads use at once."""

from collections.abc import Iterator
from contextlib import closing, contextmanager

from ..jobs.database import Connection, reading, writing
from ..jobs.postgres_connections import PostgresConnections
from ..jobs.postgres_database import PostgresDatabase


class PooledRows:
    """The rows of the database that ``pool`` leads to, whose tables are there. Its methods may be called by several
    threads at once. They raise ResourceUnavailable where the database cannot be used now."""

    def __init__(self, pool: PostgresConnections) -> None:
        self._pool = pool

    @contextmanager
    def _writing(self, *, durable: bool = True, urgent: bool = False) -> Iterator[Connection]:
        database = PostgresDatabase(self._pool, urgent=urgent)
        with closing(database), writing(database, durable=durable) as connection:
            yield connection

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with closing(PostgresDatabase(self._pool)) as database, reading(database) as connection:
            yield connection
