"""How a file of a drop folder becomes a job, and what becomes of the file once the job has ended."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from ..bundle.fingerprint import is_text
from ..bundle.pack import write_bundle
from ..errors import ExitCode, IngestError, SourceError, Unavailable
from ..jobs.job import Job, JobKind, JobState
from ..jobs.store import JobStore
from ..pipeline.submission import NewFile, submit_together
from ..services.base import UniqueId
from ..text import quoted
from .candidates import Candidate
from .disposition import Disposition
from .markers import Markers
from .rules import WatchRules
from .said import Said


@dataclass(frozen=True, slots=True)
class Submitted:
    """A new job, and what a person may not expect of it."""

    job: Job
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A file that is to have a job, and what a person may not expect of it."""

    file: NewFile
    warnings: tuple[str, ...] = ()


class Intake:
    """Makes jobs of ``user`` of what ``rules`` take, and has ``disposition`` dispose of the files; ``spool`` is where
    folders are packed."""

    def __init__(
        self, rules: WatchRules, disposition: Disposition, markers: Markers, spool: Path, user: str, said: Said
    ) -> None:
        self._rules, self._disposition, self._markers = rules, disposition, markers
        self._spool, self._user, self._said = spool, user, said

    def submit(
        self, unique_id: UniqueId, store: JobStore, candidates: Sequence[Candidate]
    ) -> list[Submitted | Exception]:
        """The job of each of these files, which are ready, or why it has none: FilesChanged where a folder was not
        ready after all. They are entered together."""
        prepared = [self._prepared(candidate) for candidate in candidates]
        files = [one.file for one in prepared if isinstance(one, _Prepared)]
        jobs = iter(submit_together(store, unique_id, files, user=self._user))
        return [_submitted(one, next(jobs)) if isinstance(one, _Prepared) else one for one in prepared]

    def refuse(self, candidate: Candidate, error: Exception) -> None:
        """Say why the file cannot become a job, and dispose of it as of one that failed."""
        if self._said.problem(candidate.name, candidate.fingerprint, error):
            reason = "\n".join(error.lines) if isinstance(error, IngestError) else repr(error)
            self._disposition.refuse(candidate, reason)
        self._tidy(candidate)

    def end(self, candidate: Candidate, job: Job) -> bool:
        """Dispose of the file of a job that has ended; return whether it is still that file."""
        try:
            with _of_one():
                return self._disposition.carry_out(candidate, job, self._spool)
        finally:
            if self._rules.packs and job.state is not JobState.HELD:
                with suppress(OSError):
                    candidate.source.unlink()  # of a failed job; the folder itself can be packed again
            self._tidy(candidate)

    def _prepared(self, candidate: Candidate) -> "_Prepared | Exception":
        if not self._rules.packs:
            return _Prepared(NewFile(self._rules.kind, candidate.path))
        try:
            warnings = self._pack(candidate)
        except Exception as error:  # noqa: BLE001 - it is of this folder
            return error
        file = NewFile(JobKind.BUNDLE, candidate.source, spooled=True, origin=str(candidate.path))
        return _Prepared(file, tuple(warnings))

    def _pack(self, candidate: Candidate) -> list[str]:
        """Pack a folder; what a person may not expect of that."""
        if not is_text(candidate.path):
            raise SourceError(f"the name {quoted(str(candidate.path))} is not valid UTF-8: rename the folder")
        with _of_one():
            self._spool.mkdir(parents=True, exist_ok=True, mode=0o700)
            rules, records = self._rules.packing, self._rules.template or []
            return write_bundle([candidate.path], records, candidate.source, rules, replace=True).warnings

    def _tidy(self, candidate: Candidate) -> None:
        if not os.path.lexists(candidate.path):
            self._markers.spend(candidate.name)


def _submitted(prepared: _Prepared, job: Job | Exception) -> Submitted | Exception:
    return job if isinstance(job, Exception) else Submitted(job, prepared.warnings)


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
