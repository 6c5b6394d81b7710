"""Job stores in whatever database."""

from pathlib import Path

from ingest_cli.jobs.sqlite import SqliteJobStore
from ingest_cli.jobs.store import JobStore
from ingest_cli.settings import Notifications, PostgresUrl, Timings


def store_at(place: str, timings: Timings, notifications: Notifications | None = None) -> JobStore:
    """The store in the SQLite file, or in the PostgreSQL database, at this place."""
    told = notifications or Notifications()
    if not place.startswith("postgresql:"):
        return SqliteJobStore(Path(place), timings, told)
    from ingest_cli.jobs.postgres import PostgresJobStore
    from ingest_cli.jobs.postgres_connections import PostgresConnections

    return PostgresJobStore(PostgresConnections(PostgresUrl(place, place)), timings, told)
