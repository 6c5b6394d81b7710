"""The catalogue in a database: tables that mirror those of Pacifica's metadata service, with its rules."""

import json
import zlib
from collections.abc import Collection, Iterable, Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

from ...bundle.catalog_rules import check_document
from ...bundle.listed import HASH_TYPES
from ...bundle.metadata import Document, as_json
from ...errors import CatalogRefused
from ...jobs.contention import again
from ...jobs.database import Connection, Database, Refused, Row, paged, reading, writing
from ...jobs.group_commit import Shared
from ...jobs.sqlite_database import BUSY_SECONDS, open_database
from ...text import counted
from ..base import StoredFile
from ..query import FileQuery
from .search import search

MIGRATIONS = (
    """
    CREATE TABLE Transactions (
        id INTEGER PRIMARY KEY, submitter INTEGER NOT NULL, project TEXT NOT NULL, instrument INTEGER NOT NULL,
        created TEXT NOT NULL, digest TEXT NOT NULL);
    CREATE TABLE Files (
        id INTEGER PRIMARY KEY, "transaction" INTEGER NOT NULL REFERENCES Transactions(id),
        name TEXT NOT NULL, subdir TEXT NOT NULL, size INTEGER NOT NULL, hashtype TEXT NOT NULL,
        hashsum TEXT NOT NULL, mimetype TEXT NOT NULL, ctime TEXT, mtime TEXT);
    CREATE INDEX Files_transaction ON Files("transaction");
    CREATE INDEX Files_hashsum ON Files(hashsum);
    CREATE TABLE TransactionKeyValue (
        "transaction" INTEGER NOT NULL REFERENCES Transactions(id), key TEXT NOT NULL, value TEXT NOT NULL,
        PRIMARY KEY ("transaction", key, value)) WITHOUT ROWID;
    CREATE TABLE FileKeyValue (
        file INTEGER NOT NULL REFERENCES Files(id), key TEXT NOT NULL, value TEXT NOT NULL,
        PRIMARY KEY (file, key, value)) WITHOUT ROWID
    """,
    "CREATE TABLE Barred (transaction_id INTEGER PRIMARY KEY, fence INTEGER NOT NULL)",
    # Those of which the tables do not hold all, such as values that were given as numbers, and sources of moves.
    "CREATE TABLE Documents (transaction_id INTEGER PRIMARY KEY REFERENCES Transactions(id), numbered BLOB NOT NULL)",
    # What is looked for among many files, and which types of hash there are, is found without reading them all.
    """
    DROP INDEX Files_hashsum;
    CREATE INDEX Files_hash ON Files(hashtype, hashsum);
    CREATE INDEX Files_name ON Files(name)
    """,
)
# SQLite takes at least 999 values in a statement.
MOST_ASKED = 500
FILE_KEYS = ("file_id", "name", "subdir", "size", "hashtype", "hashsum", "mimetype", "ctime", "mtime")
SELECT_FILE = 'SELECT "transaction", Files.id, name, subdir, size, hashtype, hashsum, mimetype, ctime, mtime FROM Files'
# One step in the index for each type.
SELECT_HASHTYPES = """
    WITH RECURSIVE found(hashtype) AS (
        SELECT min(hashtype) FROM Files
        UNION ALL SELECT (SELECT min(hashtype) FROM Files WHERE hashtype > found.hashtype) FROM found
        WHERE found.hashtype IS NOT NULL)
    SELECT hashtype FROM found WHERE hashtype IS NOT NULL
"""
# In the order in which they are asked for, and inserted.
FILE_COLUMNS = ("id", '"transaction"', *FILE_KEYS[1:])


class SqlCatalog:
    """The catalogue in an open ``database``, which it closes."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def ping(self) -> str:
        """Say how many transactions there are, having seen that another could be written."""
        with writing(self._database):
            pass
        # Nobody else waits while they are counted.
        with reading(self._database) as connection:
            count = connection.execute("SELECT count(*) FROM Transactions").fetchone()[0]
        return f"{self._database.name}: {counted(count, 'transaction')}"

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    def check(self, document: Document) -> None:
        """Raise CatalogRefused where the rules of Pacifica's metadata service do not hold."""
        check_document(document)

    @again
    def record(self, document: Document, transaction_id: int, first_file_id: int, *, fence: int) -> None:
        """Insert the transaction with all that belongs to it, in one transaction of the database.

        For a million files, that takes 10 s, in which other writers wait in SQLite, and 240 MB of a WAL, which is what
        they take in the database. In pieces it would take no less of either, and who reads would see files of no
        transaction.
        """
        try:
            with writing(self._database) as connection:
                self._database.exclude("transaction", transaction_id)
                barred = connection.execute(
                    "SELECT 1 FROM Barred WHERE transaction_id = ? AND fence >= ?", (transaction_id, fence)
                )
                if barred.fetchone() is not None:
                    raise CatalogRefused(f"transaction {transaction_id} was rolled back by another run")
                self._insert(connection, document, transaction_id, first_file_id)
        except Refused as error:
            raise CatalogRefused(f"the catalogue refuses transaction {transaction_id}: {error}") from error

    def contains(self, transaction_id: int, ids: range | None = None) -> bool:
        """Whether the transaction is recorded, with the files ``ids`` where these are given."""
        with reading(self._database) as connection:
            return _contains(connection, transaction_id, ids)

    @again
    def bar(self, transaction_id: int, ids: range, fence: int) -> bool:
        """Whether the transaction is recorded; where not, runs up to this fence do not record it any more."""
        with writing(self._database) as connection:
            self._database.exclude("transaction", transaction_id)
            if _contains(connection, transaction_id, ids):
                return True
            connection.execute(
                "INSERT INTO Barred (transaction_id, fence) VALUES (?, ?) ON CONFLICT (transaction_id)"
                " DO UPDATE SET fence = excluded.fence WHERE Barred.fence < excluded.fence",
                (transaction_id, fence),
            )
        return False

    def files(self, transaction_id: int) -> Iterator[StoredFile]:
        """The files of a transaction, by their ids."""
        rows = paged(self._rows, f'{SELECT_FILE} WHERE "transaction" = ?', [transaction_id], ["Files.id"], [1])
        return (_file_of(row) for row in rows)

    def metadata(self, transaction_id: int) -> list[dict[str, Any]]:
        """The records of a transaction's document that are not of files, always in the same order."""
        found = next(self._rows("SELECT submitter, project, instrument FROM Transactions WHERE id = ?", transaction_id))
        pairs = self._rows(
            'SELECT key, value FROM TransactionKeyValue WHERE "transaction" = ? ORDER BY key, value', transaction_id
        )
        of_files = self._rows(
            "SELECT file, FileKeyValue.key, value FROM FileKeyValue JOIN Files ON Files.id = file"
            ' WHERE "transaction" = ? ORDER BY file, FileKeyValue.key, value',
            transaction_id,
        )
        names = ("submitter", "project", "instrument")
        return [
            *({"destinationTable": f"Transactions.{name}", "value": found[at]} for at, name in enumerate(names)),
            *({"destinationTable": "TransactionKeyValue", "key": key, "value": value} for key, value in pairs),
            *(
                {"destinationTable": "FileKeyValue", "file_id": file_id, "key": key, "value": value}
                for file_id, key, value in of_files
            ),
        ]

    def given(self, transaction_id: int) -> list[dict[str, Any]] | None:
        """The numbered document as it was given, where it was kept."""
        row = next(self._rows("SELECT numbered FROM Documents WHERE transaction_id = ?", transaction_id), None)
        if row is None:
            return None
        records: list[dict[str, Any]] = json.loads(zlib.decompress(row[0]))
        return records

    def find_file(self, file_id: int) -> tuple[int, StoredFile] | None:
        """The file of this id, after its transaction; None where none is recorded."""
        row = next(self._rows(f"{SELECT_FILE} WHERE id = ?", file_id), None)
        return None if row is None else (row[0], _file_of(row))

    def known_files(self, file_ids: Collection[int]) -> set[int]:
        """Those of the ids under which a file is recorded."""
        asked = iter(file_ids)
        known: set[int] = set()
        while some := list(islice(asked, MOST_ASKED)):
            rows = self._rows(f"SELECT id FROM Files WHERE id IN ({', '.join('?' * len(some))})", *some)
            known.update(row[0] for row in rows)
        return known

    def require_findable(self, query: FileQuery) -> None:
        """Whatever is asked for can be found."""

    def find(self, query: FileQuery) -> Iterator[tuple[int, StoredFile]]:
        """The files that are asked for, each after its transaction."""
        sql, values = search(query, SELECT_FILE, self._database.dialect)
        found = ((row[0], _file_of(row)) for row in self._database.stream(sql, values))
        return ((transaction_id, file) for transaction_id, file in found if file.answers(query))

    def hashtypes(self) -> frozenset[str]:
        """The types of hash that recorded files have."""
        return HASH_TYPES & {row[0] for row in self._rows(SELECT_HASHTYPES)}

    def _rows(self, sql: str, *values: Any) -> Iterator[Row]:
        with reading(self._database) as connection:
            # Whoever leaves rows behind would have a cursor closed later than the database.
            yield from iter(connection.execute(sql, values).fetchone, None)

    def _insert(
        self,
        connection: Connection,
        document: Document,
        transaction_id: int,
        first_file_id: int,
    ) -> None:
        connection.execute(
            "INSERT INTO Transactions (id, submitter, project, instrument, created, digest) VALUES (?, ?, ?, ?, ?, ?)",
            (
                transaction_id,
                document.value("Transactions.submitter"),
                document.value("Transactions.project"),
                document.value("Transactions.instrument"),
                datetime.now(UTC).replace(tzinfo=None).isoformat(" "),
                document.digest,
            ),
        )
        insert = self._database.insert
        insert("Files", FILE_COLUMNS, _file_rows(document, transaction_id, first_file_id))
        pairs = ((transaction_id, key, value) for key, value in document.key_values())
        insert("TransactionKeyValue", ('"transaction"', "key", "value"), pairs)
        insert("FileKeyValue", ("file", "key", "value"), document.file_key_values(first_file_id))
        if not document.is_plain:
            numbered = _compressed(as_json(document.numbered(transaction_id, first_file_id)))
            insert("Documents", ("transaction_id", "numbered"), [(transaction_id, numbered)])


class EmbeddedCatalog(SqlCatalog):
    """The catalogue in the SQLite file at ``path``, which may be ``new``."""

    def __init__(
        self, path: Path, busy: float = BUSY_SECONDS, *, new: bool = True, shared: Shared | None = None
    ) -> None:
        super().__init__(open_database(path, MIGRATIONS, "catalogue", busy, new=new, shared=shared))


def _compressed(pieces: Iterable[bytes]) -> bytes:
    compressor = zlib.compressobj(1)
    return b"".join([*map(compressor.compress, pieces), compressor.flush()])


def _contains(connection: Connection, transaction_id: int, ids: range | None) -> bool:
    if connection.execute("SELECT 1 FROM Transactions WHERE id = ?", [transaction_id]).fetchone() is None:
        return False
    if ids is None:
        return True
    query = 'SELECT count(*), min(id), max(id) FROM Files WHERE "transaction" = ?'
    count, first, last = connection.execute(query, [transaction_id]).fetchone()
    return bool(count == len(ids) and (count == 0 or (first, last) == (ids[0], ids[-1])))


def _file_of(row: Row) -> StoredFile:
    return StoredFile(**dict(zip(FILE_KEYS, row[1:], strict=True)))


def _file_rows(document: Document, transaction_id: int, first_file_id: int) -> Iterator[tuple[object, ...]]:
    for file_id, entry in enumerate(document.files, first_file_id):
        yield (
            file_id,
            transaction_id,
            entry.name,
            entry.subdir,
            entry.size,
            entry.hashtype,
            entry.hashsum,
            entry.mimetype,
            entry.record.get("ctime"),
            entry.record.get("mtime"),
        )
