"""Takes in the jobs of Pacifica Ingest, so that their states can still be asked for once it is gone."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from ..jobs.imported import ImportedJob
from ..jobs.stages import INGEST_METADATA
from ..jobs.store import JobStore
from ..services.base import UniqueId
from ..text import counted, quoted
from . import ingeststate


@dataclass(slots=True)
class Tally:
    """What became of the rows that were ``read``. ``own`` are of ids that are jobs here, ``bad`` cannot be used, and
    ``unfinished`` were still at work."""

    read: int = 0
    new: int = 0
    changed: int = 0
    own: int = 0
    bad: int = 0
    unfinished: int = 0
    last_id: int = 0

    @property
    def unchanged(self) -> int:
        """How many are known as they are."""
        return self.read - self.new - self.changed - self.own - self.bad


def import_jobs(
    source: str, store: JobStore, unique_id: UniqueId, *, tally: Tally, note: Callable[[str], None]
) -> Iterator[None]:
    """Import the jobs in the database of ``source``, a page at each step; see `ingeststate.opened` for what it can be.

    ``tally`` counts along, and ``note`` is told of each row that is not imported.
    """
    with ingeststate.opened(source) as table:
        for page in table.pages():
            jobs = list(_usable(page, tally, note))
            if jobs:
                # Before they are there: no job gets an id that is theirs.
                unique_id.pass_over("upload_job", jobs[-1].job_id)
                _take_in(store, jobs, tally, note)
            yield
        without = table.count_without_id()
    if without:
        tally.read, tally.bad = tally.read + without, tally.bad + without
        note(f"{counted(without, 'row')} without a number for an id: not imported")


def _usable(page: list[dict[str, Any]], tally: Tally, note: Callable[[str], None]) -> Iterator[ImportedJob]:
    for row in page:
        tally.read += 1
        try:
            yield ingeststate.job_of(row)
        except ValueError as error:
            tally.bad += 1
            note(f"job {quoted(row['job_id'])} is not imported: {error}")


def _take_in(store: JobStore, jobs: list[ImportedJob], tally: Tally, note: Callable[[str], None]) -> None:
    taken = store.take_in(jobs)
    tally.new += taken.new
    tally.changed += taken.changed
    tally.own += len(taken.own)
    tally.unfinished += sum(_is_at_work(job) for job in jobs if job.job_id not in taken.own)
    tally.last_id = jobs[-1].job_id
    for job_id in taken.own:
        note(f"job {job_id} is not imported: it is a job of this store")


def _is_at_work(job: ImportedJob) -> bool:
    return job.state == "OK" and not (job.task == INGEST_METADATA and float(job.task_percent) == 100)
