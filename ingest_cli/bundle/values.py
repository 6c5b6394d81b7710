"""One record of a document: of which table it is, and its values as the metadata service reads them."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from ..errors import MetadataError
from ..text import quoted
from .schema import record_problem, surely_holds

Record = dict[str, Any]
Readers = dict[str, dict[str, Callable[[Any], Any]]]

SINGLE_TABLES = ("Transactions.submitter", "Transactions.project", "Transactions.instrument")
# What the metadata service's tables have of each record.
COLUMNS = {
    **{table: {"destinationTable", "value"} for table in ("Transactions._id", *SINGLE_TABLES)},
    "TransactionKeyValue": {"destinationTable", "key", "value"},
    "FileKeyValue": {"destinationTable", "file_id", "key", "value"},
    "Files": {"destinationTable", "_id", "name", "subdir", "size", "hashtype", "hashsum", "mimetype", "ctime", "mtime"},
}
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def table_of(record: Any) -> str:
    """The name of its table, and none where it has none that is a name."""
    table = record.get("destinationTable") if isinstance(record, dict) else None
    return table if isinstance(table, str) else ""


def is_plain(record: Record) -> bool:
    """Whether the metadata service keeps all that a record has, which is of one of its tables."""
    return record.keys() <= COLUMNS.get(record["destinationTable"], set())


def read_record(record: Any, number: int, *, is_explained: bool) -> tuple[Record, Record]:
    """The record as the metadata service reads it, and as the service gets it: the same, for nearly every client."""
    if surely_holds(record):
        return record, record
    try:
        given = _converted(record, NUMBERS)
        read = _converted(given, TEXTS)
    except ValueError as error:
        raise MetadataError(f"metadata record {number}: {error}") from None
    if not surely_holds(read):
        problem = record_problem(read) if is_explained else "it does not have the form of its table"
        if problem is not None:
            raise MetadataError(f"metadata record {number}: {problem}")
    return read, given


def _converted(record: Any, readers: Readers) -> Any:
    table = table_of(record)
    if table not in readers:
        return record
    return {**record, **{key: read(record[key]) for key, read in readers[table].items() if key in record}}


def _number(value: Any) -> Any:
    """A whole number where the value is one, as text or as 12.0."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and len(value) < 40:
        digits = value.strip(" ")
        if digits.isascii() and digits.isdigit():
            return int(digits)
    return value


def _text(value: Any) -> Any:
    """The text that the service makes of the value; a list or nothing at all breaks it, and is left as it is."""
    return value if value is None or isinstance(value, str | list) else str(value)


def _word(value: Any) -> str:
    return "" if value is None else str(value)


def _time(value: Any) -> Any:
    """The time that the service makes of seconds since 1970."""
    if type(value) is not int:
        return value
    try:
        return (EPOCH + timedelta(seconds=value)).replace(tzinfo=None).isoformat()
    except OverflowError:
        raise ValueError(f"the time {quoted(value)} is not within the years 1 to 9999") from None


NUMBERS: Readers = {
    "Transactions._id": {"value": _number},
    "Transactions.submitter": {"value": _number},
    "Transactions.instrument": {"value": _number},
    "Files": {"_id": _number, "size": _number},
    "FileKeyValue": {"file_id": _number},
}
# What is wrong with a hash is found where it is used.
TEXTS: Readers = {
    "Transactions.project": {"value": _text},
    "TransactionKeyValue": {"key": _text, "value": _text},
    "FileKeyValue": {"key": _text, "value": _text},
    "Files": {"hashtype": _word, "hashsum": _word, "ctime": _time, "mtime": _time},
}
