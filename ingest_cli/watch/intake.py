"""How a file of a drop folder becomes a job, and what becomes of the file once the job has ended."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..bundle.pack import write_bundle
from ..errors import ExitCode, IngestError, Unavailable
from ..jobs.job import Job, JobKind, JobState
from ..jobs.store import JobStore
from ..pipeline.submission import submit
from ..services.base import UniqueId
from .candidates import Candidate
from .disposition import Disposition
from .markers import Markers
from .rules import WatchRules
from .said import Said


class Intake:
    """Makes jobs of ``user`` of what ``rules`` take, and has ``disposition`` dispose of the files; ``spool`` is where
    folders are packed."""

    def __init__(
        self, rules: WatchRules, disposition: Disposition, markers: Markers, spool: Path, user: str, said: Said
    ) -> None:
        self._rules, self._disposition, self._markers = rules, disposition, markers
        self._spool, self._user, self._said = spool, user, said

    def pack(self, candidate: Candidate) -> None:
        """Pack what is to be packed."""
        if self._rules.packs:
            with _of_one():
                self._spool.mkdir(parents=True, exist_ok=True, mode=0o700)
                write_bundle([candidate.path], self._rules.template or [], candidate.source, replace=True)

    def submit(self, unique_id: UniqueId, store: JobStore, candidate: Candidate) -> Job:
        """The job of a file that is ready, and packed."""
        kind = JobKind.BUNDLE if self._rules.packs else self._rules.kind
        return submit(store, unique_id, kind, candidate.source, user=self._user, spooled=self._rules.packs)

    def refuse(self, candidate: Candidate, error: Exception) -> None:
        """Say why the file cannot become a job, and dispose of it as of one that failed."""
        if self._said.problem(candidate.name, candidate.fingerprint, error):
            reason = "\n".join(error.lines) if isinstance(error, IngestError) else repr(error)
            self._disposition.refuse(candidate.path, candidate.fingerprint, reason)
        self._tidy(candidate)

    def end(self, candidate: Candidate, job: Job) -> bool:
        """Dispose of the file of a job that has ended; return whether it is still that file."""
        with _of_one():
            is_this = self._disposition.carry_out(candidate.path, job)
        if self._rules.packs and job.state is not JobState.HELD:
            candidate.source.unlink(missing_ok=True)  # of a failed job; the folder itself can be packed again
        self._tidy(candidate)
        return is_this

    def _tidy(self, candidate: Candidate) -> None:
        if not os.path.lexists(candidate.path):
            self._markers.spend(candidate.name)


class Passing(IngestError):
    """Something passes that keeps one file from being packed or moved; others may not need it."""

    transient = True
    exit_code = ExitCode.UNREACHABLE


@contextmanager
def _of_one() -> Iterator[None]:
    try:
        yield
    except Unavailable as error:
        raise Passing(str(error)) from error
