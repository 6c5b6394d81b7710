"""What the database knows of uploads: who sends which, how much of it has arrived, and in which objects that lies.

An upload that is written is leased. Its fence grows with every lease, each change by its holder names it, and the row
of one that has another holder by now is not changed. A holder is known to live by the heartbeats that it counts.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ..errors import IngestError
from ..jobs.database import Connection, Cursor
from ..jobs.postgres_connections import PostgresConnections
from ..jobs.postgres_database import open_database
from ..jobs.spool import Locked
from .pooled import PooledRows
from .server_rows import ServerRows

MIGRATIONS = [
    """
    CREATE TABLE uploads (
        name text PRIMARY KEY,
        length bigint,
        "user" text NOT NULL,
        client text NOT NULL,
        metadata text NOT NULL,
        concat text NOT NULL,
        arrived bigint NOT NULL DEFAULT 0,
        fence bigint NOT NULL DEFAULT 1,
        holder text,
        heartbeat bigint NOT NULL DEFAULT 0,
        job_id bigint,
        is_used boolean NOT NULL DEFAULT false,
        touched timestamptz NOT NULL DEFAULT now()
    );
    CREATE INDEX uploads_by_time ON uploads (touched);
    CREATE TABLE upload_pieces (
        upload text NOT NULL,
        start bigint NOT NULL,
        length bigint NOT NULL,
        key text NOT NULL,
        etag text NOT NULL,
        PRIMARY KEY (upload, start)
    );
    CREATE INDEX upload_pieces_by_key ON upload_pieces (key);
    """,
    """
    CREATE TABLE carts (
        name text NOT NULL,
        "user" text NOT NULL,
        record bytea NOT NULL,
        kept timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (name, "user")
    );
    CREATE INDEX uploads_open ON uploads (client) WHERE job_id IS NULL AND NOT is_used;
    """,
    "CREATE TABLE server_keys (name text PRIMARY KEY, key bytea NOT NULL);",
]
# For how many seconds what was left was not touched: an upload of which nothing has come, and any other.
Spans = tuple[float, float]
UNTOUCHED = (
    "touched < now() - make_interval(secs => CASE WHEN arrived = 0 AND NOT is_used THEN ?::float8 ELSE ?::float8 END)"
)
COLUMNS = (
    'name, length, "user", client, metadata, concat, arrived, fence, holder, heartbeat, job_id, is_used,'
    " extract(epoch FROM touched)::float8, extract(epoch FROM now() - touched)::float8"
)


class Gone(IngestError):
    """A part of an upload was removed, or has become a part of another one."""


@dataclass(frozen=True, slots=True)
class Row:
    """An upload: ``length`` bytes are to come, or it is not known how many, and the first ``arrived`` are there.

    ``job_id`` is that of its job, or under which one is to be entered; of what ``is_used`` the bytes are gone. It was
    last ``touched`` at this time in seconds since 1970, ``age`` seconds ago, both by the database's clock.
    """

    name: str
    length: int | None
    user: str
    client: str
    metadata: str
    concat: str
    arrived: int
    fence: int
    holder: str | None
    heartbeat: int
    job_id: int | None
    is_used: bool
    touched: float
    age: float

    @property
    def beat(self) -> tuple[int, int]:
        """What changes as long as its holder lives, and when it gets another one."""
        return self.fence, self.heartbeat


@dataclass(frozen=True, slots=True)
class Piece:
    """``length`` bytes of an upload from byte ``start`` on, which lie in the object ``key`` as long as that has this
    ``etag``."""

    start: int
    length: int
    key: str
    etag: str


class UploadRows(PooledRows):
    """The uploads; ``servers`` are the rows beside them. Where a ``fence`` is named, its methods raise Locked where the
    upload has another holder by now, or is gone.
    """

    def __init__(self, pool: PostgresConnections) -> None:
        super().__init__(pool)
        self._database = open_database(pool, MIGRATIONS, "uploads")
        self.servers = ServerRows(pool)

    def close(self) -> None:
        """Let the connections be closed."""
        self._database.close()

    def add(
        self, name: str, length: int | None, user: str, client: str, metadata: str, concat: str, holder: str | None
    ) -> Row | None:
        """Add an upload, held by ``holder``; None where there is one of this name. One that is held is known to nobody
        else yet: it is durable with what is noted of it next."""
        with self._writing(durable=holder is None) as connection:
            found = connection.execute(
                'INSERT INTO uploads (name, length, "user", client, metadata, concat, holder)'
                f" VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING RETURNING {COLUMNS}",
                (name, length, user, client, metadata, concat, holder),
            )
            return _row(found)

    def try_out(self, name: str) -> None:
        """Write an upload that nobody sees, durably, by a connection that is waited for in no case."""
        with self._writing(urgent=True) as connection:
            connection.execute(
                """INSERT INTO uploads (name, "user", client, metadata, concat) VALUES (?, '', '', '', '')""", (name,)
            )
            connection.execute("DELETE FROM uploads WHERE name = ?", (name,))

    def find(self, name: str) -> Row | None:
        """The upload of this name."""
        with self._reading() as connection:
            found = connection.execute(f"SELECT {COLUMNS} FROM uploads WHERE name = ?", (name,))
            return _row(found)

    def there(self, names: Sequence[str]) -> list[str]:
        """Those of the uploads whose bytes are there."""
        with self._reading() as connection:
            found = connection.execute(
                "SELECT name FROM uploads WHERE name = ANY(?) AND NOT is_used ORDER BY name", (list(names),)
            )
            return [str(name) for (name,) in found.fetchall()]

    def lease(self, name: str, holder: str, dead: tuple[int, int] | None) -> Row | None:
        """Become the holder of an upload that has none, or whose last ``beat`` is known to be that of a dead one.

        None where it has another one, is gone, or its bytes are. From now on it is not `untouched`: who comes back at
        the last moment finds it.
        """
        fence, heartbeat = dead or (None, None)
        # It is durable with what is recorded next. Where the database loses its power before that, the next holder must
        # not get the number that this one has: that is why it grows by chance.
        with self._writing(durable=False) as connection:
            found = connection.execute(
                "UPDATE uploads SET fence = fence + 1 + (1e9 * random())::bigint, heartbeat = 0, holder = ?,"
                " touched = now()"
                " WHERE name = ? AND NOT is_used"
                f" AND (holder IS NULL OR (fence = ? AND heartbeat = ?)) RETURNING {COLUMNS}",
                (holder, name, fence, heartbeat),
            )
            return _row(found)

    def release(self, name: str, fence: int) -> None:
        """Hold an upload no more, if it is held still."""
        with self._writing(durable=False) as connection:
            connection.execute("UPDATE uploads SET holder = NULL WHERE name = ? AND fence = ?", (name, fence))

    def beat(self, held: Mapping[str, int]) -> None:
        """Say that the holders of these uploads live, by their fences. Of one that somebody is changing it is said the
        next time: the others do not wait for that."""
        with self._writing(durable=False, urgent=True) as connection:
            connection.execute(
                "UPDATE uploads SET heartbeat = heartbeat + 1, touched = now() WHERE name IN ("
                " SELECT name FROM uploads JOIN unnest(?::text[], ?::bigint[]) AS held (held_name, held_fence)"
                " ON name = held_name AND fence = held_fence WHERE holder IS NOT NULL"
                " FOR NO KEY UPDATE OF uploads SKIP LOCKED)",
                (list(held), list(held.values())),
            )

    def declare(self, name: str, fence: int, length: int) -> None:
        """Note how long an upload is to be."""
        with self._writing() as connection:
            found = connection.execute(
                "UPDATE uploads SET length = ? WHERE name = ? AND fence = ?", (length, name, fence)
            )
            _require_held(found, name)

    def record(self, name: str, fence: int, arrived: int, pieces: Sequence[Piece]) -> list[str]:
        """Note pieces that follow the first ``arrived`` bytes, or take the place of the last ones of these.

        Returns the keys of the objects that are needed no more.
        """
        with self._writing() as connection:
            found = connection.execute(
                "UPDATE uploads SET arrived = ?, touched = now() WHERE name = ? AND fence = ? AND arrived = ?"
                " AND holder IS NOT NULL AND NOT is_used",
                (pieces[-1].start + pieces[-1].length, name, fence, arrived),
            )
            _require_held(found, name)
            replaced = _remove_pieces(connection, name, pieces[0].start)
            connection.executemany(
                "INSERT INTO upload_pieces (upload, start, length, key, etag) VALUES (?, ?, ?, ?, ?)",
                [(name, piece.start, piece.length, piece.key, piece.etag) for piece in pieces],
            )
        return replaced

    def pieces(self, name: str, last: int | None = None) -> list[Piece]:
        """The pieces of an upload in their order; the ``last`` ones, where a number is given."""
        with self._reading() as connection:
            found = connection.execute(
                "SELECT start, length, key, etag FROM upload_pieces WHERE upload = ? ORDER BY start DESC LIMIT ?",
                (name, last),
            )
            return [Piece(*columns) for columns in reversed(found.fetchall())]

    def enter(self, name: str, fence: int, job_id: int) -> int:
        """Note the id under which the job of an upload is to be entered, and return the one that was noted first."""
        with self._writing() as connection:
            found = connection.execute(
                "UPDATE uploads SET job_id = coalesce(job_id, ?), touched = now() WHERE name = ? AND fence = ?"
                " AND holder IS NOT NULL AND NOT is_used RETURNING job_id",
                (job_id, name, fence),
            )
            _require_held(found, name)
            (noted,) = found.fetchall()[0]
            return int(noted)

    def join(self, name: str, fence: int, parts: Sequence[str]) -> None:
        """Have an upload consist of what its parts do, which stay as they are. Raises Gone where one of them is."""
        with self._writing() as connection:
            found = connection.execute(
                "SELECT arrived, length FROM uploads WHERE name = ? AND fence = ? FOR UPDATE", (name, fence)
            )
            _require_held(found, name)
            arrived, length = found.fetchall()[0]
            if arrived == length:
                return
            # In the order of their names: two requests that join the same parts wait for one another, but not for ever.
            found = connection.execute(
                "SELECT name, length FROM uploads WHERE name = ANY(?) AND NOT is_used AND arrived = length"
                " ORDER BY name FOR UPDATE",
                (list(parts),),
            )
            lengths, start = dict(found.fetchall()), 0
            for part in parts:
                if part not in lengths:
                    raise Gone("a part of the upload was removed, or has become a part of another one")
                connection.execute(
                    "INSERT INTO upload_pieces (upload, start, length, key, etag)"
                    " SELECT ?, start + ?, length, key, etag FROM upload_pieces WHERE upload = ?",
                    (name, start, part),
                )
                start += lengths[part]
            connection.execute("UPDATE uploads SET arrived = ?, touched = now() WHERE name = ?", (start, name))

    def use(self, name: str) -> list[str]:
        """Note that the bytes of an upload are needed no more, and return the keys of their objects."""
        with self._writing() as connection:
            connection.execute(
                "UPDATE uploads SET is_used = true, fence = fence + 1, holder = NULL WHERE name = ?", (name,)
            )
            return _remove_pieces(connection, name)

    def remove(self, name: str, *, fence: int | None = None) -> list[str] | None:
        """Remove an upload, with a ``fence`` only while that is its, and return the keys of its objects; None where it
        is not there."""
        with self._writing() as connection:
            found = connection.execute(
                "DELETE FROM uploads WHERE name = ? AND fence = coalesce(?::bigint, fence)", (name, fence)
            )
            return _remove_pieces(connection, name) if found.rowcount else None

    def remove_untouched(self, name: str, spans: Spans) -> list[str] | None:
        """Remove an upload that is `untouched` still, and return the keys of its objects; None where it is not."""
        with self._writing() as connection:
            found = connection.execute(f"DELETE FROM uploads WHERE name = ? AND {UNTOUCHED}", (name, *spans))
            return _remove_pieces(connection, name) if found.rowcount else None

    def count_open(self, prefix: str, client: str) -> tuple[int, int]:
        """How many uploads are no jobs yet whose names begin so: of this client, and of all."""
        with self._reading() as connection:
            found = connection.execute(
                "SELECT count(*) FILTER (WHERE client = ?), count(*) FROM uploads"
                " WHERE job_id IS NULL AND NOT is_used AND starts_with(name, ?)",
                (client, prefix),
            )
            of_client, of_all = found.fetchall()[0]
            return int(of_client), int(of_all)

    def untouched(self, prefix: str, spans: Spans) -> list[Row]:
        """The uploads whose names begin so, and that were not touched for so long."""
        with self._reading() as connection:
            found = connection.execute(
                f"SELECT {COLUMNS} FROM uploads WHERE starts_with(name, ?) AND {UNTOUCHED} ORDER BY name",
                (prefix, *spans),
            )
            return [Row(*columns) for columns in found.fetchall()]

    def needless(self, keys: Mapping[str, tuple[str, int]]) -> list[str]:
        """Those of these objects, each with the upload and the fence that it was written for, that no piece lies in,
        and that no piece can come to lie in any more."""
        names = sorted({name for name, _ in keys.values()})
        with self._reading() as connection:
            # First: for what was not held then, no piece is noted any more.
            held = connection.execute(
                "SELECT name, fence FROM uploads WHERE name = ANY(?) AND holder IS NOT NULL", (names,)
            )
            fences = dict(held.fetchall())
            ended = [key for key, (name, fence) in keys.items() if fences.get(name) != fence]
            noted = connection.execute("SELECT key FROM upload_pieces WHERE key = ANY(?)", (ended,))
            return sorted({*ended} - {str(key) for (key,) in noted.fetchall()})


def _row(found: Cursor) -> Row | None:
    columns = found.fetchone()
    return None if columns is None else Row(*columns)


def _require_held(found: Cursor, name: str) -> None:
    if found.rowcount == 0:
        raise Locked(f"another request is writing {name}, or has just removed it")


def _remove_pieces(connection: Connection, name: str, start: int = 0) -> list[str]:
    """Forget the pieces of an upload from byte ``start`` on, and return the keys that no other has a piece in."""
    found = connection.execute("DELETE FROM upload_pieces WHERE upload = ? AND start >= ? RETURNING key", (name, start))
    keys = {str(key) for (key,) in found.fetchall()}
    if keys:
        found = connection.execute("SELECT key FROM upload_pieces WHERE key = ANY(?)", (list(keys),))
        keys -= {str(key) for (key,) in found.fetchall()}
    return sorted(keys)


def in_batches(keys: Iterable[str], count: int = 1000) -> Iterator[list[str]]:
    """The keys, so many at a time."""
    batch: list[str] = []
    for key in keys:
        batch.append(key)
        if len(batch) == count:
            yield batch
            batch = []
    if batch:
        yield batch
