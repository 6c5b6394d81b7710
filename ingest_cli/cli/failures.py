"""What a program is told of a command that fails as a whole: what it is told of one of several things, of each."""

import sys
from collections.abc import Iterator, Mapping
from typing import Any

from ..errors import IngestError, Interrupted, OutputsConflict
from .output import error_fields, regardless, write_event, write_json

# By the names of the functions: which parameter names what the command is of, and the field that has it.
SUBJECTS = {
    **dict.fromkeys(("state", "retry", "discard", "cancel"), ("job_ids", "job_id")),
    **dict.fromkeys(("ls", "restore", "job"), ("job_id", "job_id")),
    **dict.fromkeys(("ingest", "upload", "find"), ("paths", "source")),
    **{"check": ("bundles", "source"), "move": ("documents", "source"), "import_jobs": ("source", "source")},
    **{"pack": ("output", "target"), "backup": ("folder", "target")},
    "migrate_store": ("source", "from"),
}
WITH_EVENTS = {"verify", "watch", "worker"}


def tell_programs(name: str, values: Mapping[str, Any], error: IngestError) -> None:
    """Write an object with the error: one for each argument of the command ``name`` that has none yet."""
    if isinstance(error, OutputsConflict):
        return
    with regardless():
        if name not in WITH_EVENTS:
            for subject in _subjects(name, values):
                write_json({**subject, **error_fields(error)})
        elif not isinstance(error, Interrupted):
            write_event("error", **error_fields(error))


def _subjects(name: str, values: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    parameter, field = SUBJECTS.get(name, ("", ""))
    given = values.get(parameter)
    if not isinstance(given, list | tuple) or not given:
        yield _named(field, given)
        return
    # Of those that come first there are objects, each in a line of its own.
    for one in given[getattr(sys.stdout, "lines", 0) :]:
        yield _named(field, one)


def _named(field: str, value: Any) -> dict[str, Any]:
    if not value:
        return {}
    if field != "job_id":
        return {field: str(value)}
    return {field: value} if isinstance(value, int) else {}  # what was given may be no number
