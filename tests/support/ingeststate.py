"""The job database of Pacifica Ingest, as peewee makes it in SQLite."""

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

TABLE = """
    CREATE TABLE "ingeststate" ("id" BIGINT NOT NULL PRIMARY KEY, "state" VARCHAR(255) NOT NULL,
        "task" VARCHAR(255) NOT NULL, "task_percent" DECIMAL(10, 5) NOT NULL, "exception" TEXT NOT NULL,
        "created" DATETIME NOT NULL, "updated" DATETIME NOT NULL, "complete" INTEGER NOT NULL)
"""
# What a database could hold that no peewee has made.
LOOSE = TABLE.replace(" NOT NULL", "").replace(" PRIMARY KEY", "")
CREATED, UPDATED = "2026-11-23 23:18:38.493545", "2026-11-23 23:18:39.247907"


def row(job_id: Any, **changes: Any) -> dict[str, Any]:
    """A row of a job that is complete, but for the changes."""
    complete = {"state": "OK", "task": "ingest metadata", "task_percent": 100, "exception": "", "complete": 1}
    return {"id": job_id, **complete, "created": CREATED, "updated": UPDATED, **changes}


def write_rows(path: Path, rows: Iterable[dict[str, Any]], table: str = TABLE) -> Path:
    """Write rows over those of the same ids; the table is made where it is not there."""
    with closing(sqlite3.connect(path)) as connection, connection:
        if not connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'ingeststate'").fetchone():
            connection.execute(table)
        for each in rows:
            marks = ", ".join("?" * len(each))
            connection.execute(
                f"INSERT OR REPLACE INTO ingeststate ({', '.join(each)}) VALUES ({marks})", tuple(each.values())
            )
    return path


def answer(job_id: int, **changes: Any) -> dict[str, Any]:
    """What Pacifica Ingest answers for `row`."""
    state = {"job_id": job_id, "state": "OK", "task": "ingest metadata", "task_percent": "100", "complete": True}
    return {**state, "updated": UPDATED, "created": CREATED, "exception": "", **changes}
