"""The job store in a database of PostgreSQL."""

from ..settings import Notifications, Timings
from .database import Connection, writing
from .postgres_database import PostgresConnections, PostgresDatabase, open_database
from .postgres_migrations import ADDED_UP, MIGRATIONS
from .sql_reading import NOBODY
from .sql_store import SqlJobStore

# After so many jobs the counts are added up.
ADDED_UP_EVERY = 100


class PostgresJobStore(SqlJobStore):
    """The store in the database that ``pool`` leads to; a ``new`` one is made where it is missing.

    Raises StoreError.
    """

    _database: PostgresDatabase

    def __init__(
        self, pool: PostgresConnections, timings: Timings, notifications: Notifications = NOBODY, *, new: bool = True
    ) -> None:
        database = open_database(pool, MIGRATIONS, "job store", timings.busy, new=new)
        super().__init__(database, timings, notifications)

    def another(self) -> "PostgresJobStore":
        """A store for another thread, by the same connections."""
        return PostgresJobStore(self._database.pool, self._timings, self._notifications, new=False)

    def check_integrity(self) -> str:
        """Look whether the database can be written; whether it is whole is its server's to say."""
        with writing(self._database) as connection:
            self._add_up(connection)
        return ""

    def _tidy(self, connection: Connection, job_id: int) -> None:
        if job_id % ADDED_UP_EVERY == 0:
            self._add_up(connection)

    def _add_up(self, connection: Connection) -> None:
        """Add up what is counted of jobs, unless somebody else is at it."""
        if self._database.try_exclude("counts"):
            for statement in ADDED_UP:
                connection.execute(statement)
