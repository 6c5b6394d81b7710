"""Ids from PostgreSQL."""

from ...jobs.postgres_connections import PostgresConnections
from ...jobs.postgres_database import BUSY_SECONDS, open_database
from ..embedded.uniqueid import SqlUniqueId

MIGRATIONS = ('CREATE TABLE unique_index (id_mode text COLLATE "C" PRIMARY KEY, next_id bigint NOT NULL)',)


class PostgresUniqueId(SqlUniqueId):
    """Ids kept in the database that ``pool`` leads to, where their table may be ``new``."""

    def __init__(self, pool: PostgresConnections, busy: float = BUSY_SECONDS, *, new: bool = True) -> None:
        super().__init__(open_database(pool, MIGRATIONS, "id store", busy, new=new))
