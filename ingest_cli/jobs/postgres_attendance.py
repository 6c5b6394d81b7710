"""Where processes say that they are there: a table in PostgreSQL."""

import time
from datetime import UTC, datetime, timedelta

from .. import __version__
from .attendance import Presence
from .database import Database, Row, reading, writing
from .process import Life, Process
from .sql_rows import time_text

# Of a host that was taken away nobody else says that it is gone.
FORGOTTEN_AFTER = timedelta(days=30)

NOW = "extract(epoch FROM clock_timestamp())::double precision"
ENTER = f"""
    INSERT INTO processes (process, host, role, version, since, heartbeat, clock, told)
        VALUES (?, ?, ?, ?, ?, 1, ?, {NOW})
        ON CONFLICT (process) DO UPDATE SET role = excluded.role, heartbeat = processes.heartbeat + 1,
            clock = excluded.clock, told = excluded.told
"""
BEAT = f"UPDATE processes SET heartbeat = heartbeat + 1, clock = ?, told = {NOW} WHERE process = ?"
PRESENT = f"""
    SELECT process, host, role, version, since, heartbeat, {NOW} - told AS ago, clock - told AS ahead
        FROM processes ORDER BY host, since, process
"""


class PostgresAttendance:
    """The table of the processes in the store's ``database``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def enter(self, process: Process, host: str, role: str) -> None:
        """Say that the process is there from now on."""
        gone = [other.process for other in self.present() if other.process.life() is Life.GONE]
        since = time_text(datetime.now(UTC))
        with writing(self._database, durable=False) as connection:
            for other in gone:
                connection.execute("DELETE FROM processes WHERE process = ?", [other.to_text()])
            connection.execute(f"DELETE FROM processes WHERE told < {NOW} - ?", [FORGOTTEN_AFTER.total_seconds()])
            connection.execute(ENTER, [process.to_text(), host, role, __version__, since, time.time()])

    def beat(self, process: Process) -> bool:
        """Say that it is there still; whether it is known yet."""
        with writing(self._database, durable=False) as connection:
            return connection.execute(BEAT, [time.time(), process.to_text()]).rowcount == 1

    def leave(self, process: Process) -> None:
        """It is there no more."""
        with writing(self._database, durable=False) as connection:
            connection.execute("DELETE FROM processes WHERE process = ?", [process.to_text()])

    def present(self) -> list[Presence]:
        """Those who have entered and not left."""
        with reading(self._database) as connection:
            return list(map(_presence_of, connection.execute(PRESENT).fetchall()))


def _presence_of(row: Row) -> Presence:
    return Presence(
        process=Process.from_text(row["process"]),
        host=row["host"],
        role=row["role"],
        version=row["version"],
        since=row["since"],
        heartbeat=row["heartbeat"],
        told=max(0.0, row["ago"]),
        ahead=row["ahead"],
    )
