"""The catalogue in PostgreSQL."""

from ...jobs.postgres_connections import PostgresConnections
from ...jobs.postgres_database import BUSY_SECONDS, open_database
from ..embedded.catalog import SqlCatalog

# A value may be longer than a B-tree takes.
MIGRATIONS = (
    """
    CREATE TABLE Transactions (
        id bigint PRIMARY KEY, submitter bigint NOT NULL, project text COLLATE "C" NOT NULL, instrument bigint NOT NULL,
        created text COLLATE "C" NOT NULL, digest text COLLATE "C" NOT NULL);
    CREATE TABLE Files (
        id bigint PRIMARY KEY, "transaction" bigint NOT NULL REFERENCES Transactions (id),
        name text COLLATE "C" NOT NULL, subdir text COLLATE "C" NOT NULL, size bigint NOT NULL,
        hashtype text COLLATE "C" NOT NULL, hashsum text COLLATE "C" NOT NULL, mimetype text NOT NULL,
        ctime text, mtime text);
    CREATE INDEX Files_transaction ON Files ("transaction", id);
    CREATE INDEX Files_hash ON Files (hashtype, hashsum);
    CREATE INDEX Files_name ON Files (name);
    CREATE TABLE TransactionKeyValue (
        "transaction" bigint NOT NULL REFERENCES Transactions (id),
        key text COLLATE "C" NOT NULL, value text COLLATE "C" NOT NULL);
    CREATE UNIQUE INDEX TransactionKeyValue_once ON TransactionKeyValue ("transaction", md5(key), md5(value));
    CREATE TABLE FileKeyValue (
        file bigint NOT NULL REFERENCES Files (id), key text COLLATE "C" NOT NULL, value text COLLATE "C" NOT NULL);
    CREATE UNIQUE INDEX FileKeyValue_once ON FileKeyValue (file, md5(key), md5(value));
    CREATE TABLE Barred (transaction_id bigint PRIMARY KEY, fence bigint NOT NULL);
    CREATE TABLE Documents (transaction_id bigint PRIMARY KEY REFERENCES Transactions (id), numbered bytea NOT NULL)
    """,
)


class PostgresCatalog(SqlCatalog):
    """The catalogue in the database that ``pool`` leads to, where its tables may be ``new``."""

    def __init__(self, pool: PostgresConnections, busy: float = BUSY_SECONDS, *, new: bool = True) -> None:
        super().__init__(open_database(pool, MIGRATIONS, "catalogue", busy, new=new))
