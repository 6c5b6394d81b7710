"""Job stores as older versions of the program left them."""

from contextlib import closing
from pathlib import Path
from typing import Any

from ingest_cli.jobs.sqlite_database import open_database
from ingest_cli.jobs.sqlite_migrations import MIGRATIONS

# From the next version on a state is one column, and has other names.
LAST_OF_OLD_ROWS = 3


def old_store(path: Path, version: int, rows: list[dict[str, Any]]) -> Path:
    """A store as that version of the program left it; one of the later versions was brought up to date by it."""
    with (
        closing(open_database(path, MIGRATIONS[: min(version, LAST_OF_OLD_ROWS)], "job store").conn) as connection,
        connection,
    ):
        columns = {str(row[1]) for row in connection.execute("PRAGMA table_info(jobs)")}
        for job_id, changes in enumerate(rows, 1):
            row = {
                "job_id": job_id,
                "kind": "bundle",
                "source": f"/data/{job_id}.tar",
                "stamp": "2049:1234:5678:90",
                "user": "u",
                "created": "2026-01-02 03:04:05.678901",
                "updated": "2026-01-02 03:04:06.678901",
                **changes,
            }
            row = {column: value for column, value in row.items() if column in columns}
            connection.execute(
                f"INSERT INTO jobs ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})", tuple(row.values())
            )
        if version >= 3:
            connection.execute("INSERT INTO stages VALUES (1, 'ingest files', 1.5)")
    open_database(path, MIGRATIONS[:version], "job store").close()
    return path
