"""A drop folder, looked at once: which of its files are new, settled, or have an ended job."""

import hashlib
import os
import re
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from ..bundle.fingerprint import fingerprint_of, is_text
from ..bundle.pack import write_bundle
from ..bundle.reader import Bundle
from ..errors import BundleError, IngestError, PackError, SourceError
from ..jobs.job import Job, JobKind, JobState
from ..jobs.store import JobStore
from ..pipeline.selection import recorded_as
from ..pipeline.submission import submit
from ..services.base import UniqueId
from .disposition import ERROR_SUFFIX, Aftermath
from .stability import Settling

# Names under which programs write what is not whole yet: browsers, WinSCP, rsync, editors, Windows.
IN_FLIGHT = re.compile(r"^[.~]|~$|\.(part|partial|tmp|temp|filepart|crdownload|download|swp|lock)$", re.IGNORECASE)
PATTERNS = {
    JobKind.BUNDLE: ("*.tar", "*.tar.gz", "*.tgz", "*.tar.bz2", "*.tbz2", "*.tar.xz", "*.txz"),
    JobKind.MOVE: ("*.json",),
}
MARKER = ".done"
# So many jobs of a folder wait at most: a folder of a million files shall not fill the queue for all others.
MAX_WAITING = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class Rules:
    """What is looked for, and when it counts as whole.

    A file has settled when it held still for ``settle`` seconds; one that is no whole tar then has ``patience`` seconds
    more. With ``marker`` a file NAME is whole when there is a file NAME.done, and not before. ``patterns`` are the
    names looked for, those of ``kind`` unless given. With a ``template``, the records of a document that are not of
    files, sub-folders are looked for instead, and packed.
    """

    kind: JobKind = JobKind.BUNDLE
    settle: float = 5.0
    patience: float = 60.0
    marker: bool = False
    patterns: tuple[str, ...] = ()
    template: list[dict[str, Any]] | None = None

    def is_wanted(self, name: str) -> bool:
        """Whether a file of this name is looked at."""
        if IN_FLIGHT.search(name) or name.endswith(ERROR_SUFFIX):
            return False
        known = ("*",) if self.template is not None else PATTERNS[self.kind]
        return any(fnmatch(name.lower(), pattern.lower()) for pattern in self.patterns or known)


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A file or folder at ``path``; ``fingerprint`` changes with it, and ``source`` is the file that its job is of."""

    path: Path
    fingerprint: str
    source: Path


class DropFolder:
    """The folder ``path``, whose files become jobs of ``user`` in the queue."""

    def __init__(self, path: Path, rules: Rules, aftermath: Aftermath, spool: Path, user: str) -> None:
        self.path, self._rules, self._aftermath, self._spool = path.absolute(), rules, aftermath, spool
        self._user = user
        self._settling = Settling(rules.settle)
        self._refused: dict[Path, str] = {}
        self.waiting: list[Path] = []
        self._submitted: list[Job] = []

    def look(self, unique_id: UniqueId, store: JobStore, renamed: set[Path]) -> list[str]:
        """Submit what has settled and tidy up after what has ended. ``renamed`` were seen to be renamed into place.

        Returns why files were refused that no job could be made of, each once. ``waiting`` are afterwards the files
        that a later look may find settled, or their jobs ended. Raises SourceError where the folder cannot be read,
        and ServiceUnavailable where no ids are to be had.
        """
        refusals = []
        self._settling.begin_round()
        self.waiting = []
        in_queue = 0
        for candidate in self._candidates():
            path = candidate.path
            job = store.of_source(candidate.source) if is_text(path) else None
            if job is None or (job.fingerprint != candidate.fingerprint and self._rules.template is None):
                if in_queue >= MAX_WAITING or not self._is_whole(candidate, renamed=path in renamed):
                    self.waiting.append(path)
                    continue
                try:
                    job = self._submit(unique_id, store, candidate)
                except (SourceError, PackError) as error:
                    if self._is_news(candidate):
                        self._aftermath.refuse(path, error)
                        refusals.append(str(error))
                    continue
                self._submitted.append(job)
            job = _as_it_stands(job, store)
            if job.is_done or job.has_failed:
                self._end(candidate, job)
            else:
                in_queue += 1
                self.waiting.append(path)
        return refusals

    def take_submitted(self) -> list[Job]:
        """The jobs that were submitted since this was last asked."""
        submitted, self._submitted = self._submitted, []
        return submitted

    def _submit(self, unique_id: UniqueId, store: JobStore, candidate: _Candidate) -> Job:
        if self._rules.template is None:
            return submit(store, unique_id, self._rules.kind, candidate.source, user=self._user)
        self._spool.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_bundle([candidate.path], self._rules.template, candidate.source, replace=True)
        return submit(store, unique_id, JobKind.BUNDLE, candidate.source, user=self._user, spooled=True)

    def _is_news(self, candidate: _Candidate) -> bool:
        news = candidate.path.exists() and self._refused.get(candidate.path) != candidate.fingerprint
        self._refused[candidate.path] = candidate.fingerprint
        return news

    def _end(self, candidate: _Candidate, job: Job) -> None:
        self._aftermath.settle(candidate.path, job)
        if self._rules.template is not None and job.state is not JobState.HELD:
            candidate.source.unlink(missing_ok=True)  # of a failed job; the folder itself can be packed again
        if self._rules.marker and not candidate.path.exists():
            self._marker_of(candidate).unlink(missing_ok=True)

    def _candidates(self) -> Iterator[_Candidate]:
        try:
            with os.scandir(self.path) as entries:
                names = sorted(entry.name for entry in entries if self._rules.is_wanted(entry.name))
        except OSError as error:
            raise SourceError(f"cannot read the folder {self.path}: {error.strerror}") from error
        for name in names:
            path = self.path / name
            try:
                found = path.lstat()
            except OSError:  # gone since
                continue
            # A link's target may change without a trace here; a FIFO would block whoever opens it.
            if self._rules.template is None and stat.S_ISREG(found.st_mode):
                yield _Candidate(path, fingerprint_of(found), path)
            elif self._rules.template is not None and stat.S_ISDIR(found.st_mode):
                fingerprint = _fingerprint_of_tree(path)
                yield _Candidate(path, fingerprint, self._spool / f"packed-{_digest(f'{path} {fingerprint}')}.tar")

    def _is_whole(self, candidate: _Candidate, *, renamed: bool) -> bool:
        if self._rules.marker:
            return self._marker_of(candidate).exists()
        held = self._settling.see(candidate.path, candidate.fingerprint, renamed=renamed)
        if held < self._rules.settle:
            return False
        is_tar = self._rules.template is None and self._rules.kind is JobKind.BUNDLE
        if not is_tar or held >= self._rules.settle + self._rules.patience:
            return True
        return self._settling.may_check(candidate.path) and self._is_whole_tar(candidate.path)

    @staticmethod
    def _marker_of(candidate: _Candidate) -> Path:
        return candidate.path.with_name(candidate.path.name + MARKER)

    def _is_whole_tar(self, path: Path) -> bool:
        try:
            with Bundle(path, self._spool):
                return True
        except BundleError:
            return False
        except IngestError:
            return True  # such as a file that may not be read: its job says so


def _as_it_stands(job: Job, store: JobStore) -> Job:
    """The job, with the state of the one that took over what it had stored, if there is one."""
    if job.state is not JobState.SUPERSEDED:
        return job
    heir = store.get(recorded_as(store, job.job_id))
    return replace(job, state=heir.state, task=heir.task, exception=heir.exception)


def _fingerprint_of_tree(folder: Path) -> str:
    found = []
    for place, _, names in os.walk(folder):
        for name in names:
            path = Path(place, name)
            with suppress(OSError):  # gone since: the next look sees another fingerprint
                found.append(f"{path} {fingerprint_of(path.lstat())}")
    return _digest("\n".join(sorted(found)))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()
