"""The SQL by which the catalogue finds files, whose cost is that of what is found wherever an index can help."""

from collections.abc import Iterator
from typing import Any

from ...jobs.dialect import Dialect
from ..query import TOP_FOLDER, FileQuery, in_utc, is_exact, widened

PATH = "('data/' || CASE subdir WHEN '' THEN '' ELSE subdir || '/' END || name)"
PAIR = """
    ("transaction" IN (SELECT "transaction" FROM TransactionKeyValue WHERE key = ? AND value = ?)
    OR Files.id IN (SELECT file FROM FileKeyValue WHERE key = ? AND value = ?))
"""


def search(query: FileQuery, select_file: str, dialect: Dialect) -> tuple[str, list[Any]]:
    """The statement that finds all files which are asked for, and perhaps more, and its values.

    ``select_file`` selects the columns from ``Files``. The order of the tables is the order in which they are searched:
    where only the transaction is known, SQLite would look at all files, since it does not know how many there are.
    """
    conditions = list(_conditions(query, dialect))
    wanted = " AND ".join(condition for condition, *_ in conditions) or "true"
    values = [value for _, *values in conditions for value in values]
    if query.is_of_transactions and not _has_index(query):
        columns, _, _ = select_file.partition(" FROM ")
        tables = 'Transactions CROSS JOIN Files WHERE "transaction" = Transactions.id'
        return f"{columns} FROM {tables} AND {wanted} ORDER BY Transactions.id, Files.id", values
    if query.is_of_transactions:
        select_file += " CROSS JOIN Transactions"
        wanted = f'Transactions.id = "transaction" AND {wanted}'
    return f"{select_file} WHERE {wanted} ORDER BY Files.id", values


def _conditions(query: FileQuery, dialect: Dialect) -> Iterator[tuple[Any, ...]]:
    """What must hold, each as SQL and its values."""
    if query.hashsum:
        marks = ", ".join("?" * len(query.hashtypes))
        yield f"hashtype IN ({marks}) AND hashsum = ?", *query.hashtypes, query.hashsum
    if query.name:
        alike, values = dialect.resembles("name", widened(query.name))
        yield ("name = ?", query.name) if is_exact(query.name) else (alike, *values)
    if query.path:
        whole, values = dialect.resembles(PATH, widened(query.path))
        below, _ = dialect.resembles(f"substr({PATH}, {len(TOP_FOLDER) + 1})", widened(query.path))
        yield f"({whole} OR {below})", *values, *values
    for pair in query.pairs:
        yield PAIR, *pair, *pair
    if query.project:
        yield "project = ?", query.project
    for column, value in (("instrument", query.instrument), ("submitter", query.submitter)):
        if value is not None:
            yield f"{column} = ?", value
    for moment, comparison in ((query.since, ">="), (query.until, "<")):
        if moment is not None:
            yield f"created {comparison} ?", in_utc(moment, " ")


def _has_index(query: FileQuery) -> bool:
    """Whether something is given by which an index finds files: a hash, or how a name begins."""
    begins = next(widened(query.name), ("", True)) if query.name else ("", True)
    return bool(query.hashsum) or not begins[1]
