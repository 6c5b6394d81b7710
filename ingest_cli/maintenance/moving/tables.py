"""What is moved: the tables of the databases, and in which order their rows are gone through.

What is not named is not moved. The store counts jobs itself as they are put into it, finds the reasons of failures when
it is asked for them, and knows its neighbours once they are used together.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

AT_ONCE = 2000
# Of rows that may have megabytes each.
FEW_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class Table:
    """A table, which is gone through in the order of the whole numbers in its column ``key``, about ``at_once`` rows at
    a time; one without is gone through as a whole. No two rows have all of ``identity`` in common; one without has
    few rows that are replaced together. The columns ``own`` are there only where several hosts share a database."""

    name: str
    key: str | None
    identity: tuple[str, ...]
    at_once: int = AT_ONCE
    own: frozenset[str] = frozenset()

    def between(self, after: int | None, upto: int | None) -> str:
        """What says in SQL which rows are those behind one key up to another."""
        assert self.key is not None or (after, upto) == (None, None)
        bounds = [f'"{self.key}" {sign} {key}' for sign, key in ((">", after), ("<=", upto)) if key is not None]
        return f"WHERE {' AND '.join(bounds)}" if bounds else ""

    @property
    def is_replaced(self) -> bool:
        """Whether its rows are replaced together."""
        return not self.identity


JOBS = "job store"
IDS = "id store"
CATALOG = "catalogue"
UPLOADS = "uploads"
# Those that others refer to come first. What the stages took is counted as they are put there, but is more than that
# where jobs were pruned: it comes behind them.
TABLES: Mapping[str, Sequence[Table]] = {
    JOBS: (
        Table("jobs", "job_id", ("job_id",), own=frozenset(("queue", "priority", "project", "is_crowded"))),
        Table("reservations", "job_id", ("job_id",), FEW_AT_ONCE),
        Table("stages", "job_id", ("job_id", "task")),
        Table("mounts", "job_id", ("job_id", "path")),
        Table("requests", "job_id", ("job_id",)),
        Table("history", "job_id", ("job_id", "number")),
        Table("outbox", "number", ("number",)),
        Table("imported", "job_id", ("job_id",)),
        Table("archive", None, ()),
        Table("stage_seconds", None, ()),
    ),
    IDS: (Table("unique_index", None, ("id_mode",)),),
    CATALOG: (
        Table("Transactions", "id", ("id",)),
        Table("Files", "id", ("id",)),
        Table("TransactionKeyValue", "transaction", ("transaction", "key", "value")),
        Table("FileKeyValue", "file", ("file", "key", "value")),
        Table("Barred", "transaction_id", ("transaction_id",)),
        Table("Documents", "transaction_id", ("transaction_id",), FEW_AT_ONCE),
    ),
    UPLOADS: (
        Table("uploads", None, ("name",)),
        Table("upload_pieces", None, ("upload", "start")),
        Table("carts", None, ("name", "user")),
    ),
}
# What a database counts itself: the same on both sides at the end.
COUNTED: Mapping[str, Sequence[str]] = {
    JOBS: tuple(
        f"SELECT {keys}, SUM(jobs), SUM(files), SUM(bytes) FROM {table} GROUP BY {keys} HAVING SUM(jobs) <> 0"
        for table, keys in (("counts", '"user", status'), ("days", "day, state"))
    ),
    IDS: (),
    CATALOG: (),
    UPLOADS: (),
}
