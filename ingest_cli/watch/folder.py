"""A drop folder, looked at once: which of its files are new, settled, or have an ended job."""

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from ..bundle import Bundle
from ..errors import BundleError, IngestError, SourceError
from ..jobs import Job, JobKind, JobState, JobStore
from ..worker import Worker, is_text, stamp_of
from .aftermath import ERROR_SUFFIX, Aftermath
from .settling import Settling

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
    names looked for, those of ``kind`` unless given.
    """

    kind: JobKind = JobKind.BUNDLE
    settle: float = 5.0
    patience: float = 60.0
    marker: bool = False
    patterns: tuple[str, ...] = ()

    def is_wanted(self, name: str) -> bool:
        """Whether a file of this name is looked at."""
        if IN_FLIGHT.search(name) or name.endswith(ERROR_SUFFIX):
            return False
        return any(fnmatch(name.lower(), pattern.lower()) for pattern in self.patterns or PATTERNS[self.kind])


class DropFolder:
    """The folder ``path``, whose files become jobs of ``worker`` in the queue."""

    def __init__(self, path: Path, rules: Rules, aftermath: Aftermath, spool: Path) -> None:
        self.path, self._rules, self._aftermath, self._spool = path.absolute(), rules, aftermath, spool
        self._settling = Settling(rules.settle)
        self._refused: dict[Path, str] = {}
        self.waiting: list[Path] = []
        self.submitted: list[Job] = []

    def look(self, worker: Worker, store: JobStore, renamed: set[Path]) -> list[str]:
        """Submit what has settled and tidy up after what has ended. ``renamed`` were seen to be renamed into place.

        Returns why files were refused that no job could be made of, each once. ``waiting`` are afterwards the files
        that a later look may find settled, or their jobs ended. Raises SourceError where the folder cannot be read,
        and ServiceUnavailable where no ids are to be had.
        """
        refusals = []
        self._settling.begin_round()
        self.waiting = []
        in_queue = 0
        for path, found in self._files():
            job = store.of_source(path) if is_text(path) else None
            if job is None or job.stamp != stamp_of(found):
                if in_queue >= MAX_WAITING or not self._is_whole(path, found, renamed=path in renamed):
                    self.waiting.append(path)
                    continue
                try:
                    job = worker.submit(self._rules.kind, path, queued=True)
                except SourceError as error:
                    if self._is_news(path, found):
                        self._aftermath.refuse(path, error)
                        refusals.append(str(error))
                    continue
                self.submitted.append(job)
            if job.complete or job.state is JobState.FAILED:
                self._end(path, job)
            else:
                in_queue += 1
                self.waiting.append(path)
        return refusals

    def _files(self) -> Iterator[tuple[Path, os.stat_result]]:
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
            if stat.S_ISREG(found.st_mode):
                yield path, found

    def _is_whole(self, path: Path, found: os.stat_result, *, renamed: bool) -> bool:
        if self._rules.marker:
            return path.with_name(path.name + MARKER).exists()
        held = self._settling.see(path, stamp_of(found), renamed=renamed)
        if held < self._rules.settle:
            return False
        if self._rules.kind is JobKind.MOVE or held >= self._rules.settle + self._rules.patience:
            return True
        return self._settling.may_check(path) and self._is_whole_tar(path)

    def _is_whole_tar(self, path: Path) -> bool:
        try:
            with Bundle(path, self._spool):
                return True
        except BundleError:
            return False
        except IngestError:
            return True  # such as a file that may not be read: its job says so

    def _is_news(self, path: Path, found: os.stat_result) -> bool:
        news = path.exists() and self._refused.get(path) != stamp_of(found)
        self._refused[path] = stamp_of(found)
        return news

    def _end(self, path: Path, job: Job) -> None:
        self._aftermath.settle(path, job)
        if self._rules.marker and not path.exists():
            path.with_name(path.name + MARKER).unlink(missing_ok=True)
