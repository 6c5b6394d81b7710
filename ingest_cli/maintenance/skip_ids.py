"""Ids that may have been given out by a database that was brought back to an earlier moment: they are not again.

Another job of the same id would be taken for the one that clients, receivers of events and processes that were frozen
know; another file, for one that the archive still holds.
"""

from dataclasses import dataclass

from ..errors import IngestError
from ..meter import NOBODY, Meter
from ..services.base import Archive, IdMode, UniqueId

# How many ids may have been given out that nothing tells of any more.
MARGIN = 1_000_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Skipped:
    """No job and no file is given an id up to these."""

    last_job_id: int
    last_file_id: int


def skip_ids(
    unique_id: UniqueId, archive: Archive, *, job: int | None, file: int | None, meter: Meter = NOBODY
) -> Skipped:
    """Let ids of jobs go on behind ``job`` and those of files behind ``file``.

    Without, they go on a million behind the last that is known: of files, that is the last one that the archive lists.
    Raises IngestError where it cannot list its files.
    """
    last_file = _last_listed(archive, meter) + MARGIN if file is None else file
    last_job = MARGIN if job is None else job
    return Skipped(
        last_job_id=_pass_over(unique_id, "upload_job", last_job, counts_on=job is None),
        last_file_id=_pass_over(unique_id, "file", last_file, counts_on=False),
    )


def _pass_over(unique_id: UniqueId, mode: IdMode, last: int, *, counts_on: bool) -> int:
    """Give out no id up to ``last``, or up to so many behind the one that was given out last; return the last."""
    given = unique_id.reserve(mode, 1)
    last = given + last if counts_on else max(given, last)
    unique_id.pass_over(mode, last)
    return last


def _last_listed(archive: Archive, meter: Meter) -> int:
    """The greatest id of what the archive holds; 0 where it holds nothing."""
    listed = archive.list_files()
    if listed is None:
        raise IngestError("the archive cannot list its files: give the last id that one may have, by --file")
    last = 0
    for found in listed:
        last = max(last, found.file_id or 0, found.run_of or 0)
        meter.advance(0, 1)
    return last
