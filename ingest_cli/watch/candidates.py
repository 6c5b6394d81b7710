"""The files and folders in a drop folder that could become jobs."""

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from ..bundle.fingerprint import fingerprint_of
from ..disk import explained
from ..errors import SourceError
from ..jobs.spool import SpoolKind
from .own import OwnPlaces, identity
from .rules import WatchRules
from .said import Said

# While robocopy writes a file, it gives it a time of 1980.
EARLIEST = 365.25 * 86400 * 11


@dataclass(frozen=True, slots=True)
class Candidate:
    """A file or folder at ``path``; ``fingerprint`` changes with it, and ``source`` is the file that its job is of.

    ``written`` and ``changed`` are when something in it was last written, and when the file system last touched it, in
    seconds since 1970 by its clock.
    """

    path: Path
    fingerprint: str
    source: Path
    written: float = 0.0
    changed: float = 0.0

    @property
    def name(self) -> str:
        """Its name in the drop folder."""
        return self.path.name

    @property
    def is_folder(self) -> bool:
        """Whether it is to be packed."""
        return self.source != self.path

    def age(self, now: float) -> float:
        """For how long it has not been written to, where its times can be believed."""
        believed = self.written if EARLIEST < self.written <= now else self.changed
        return max(0.0, now - believed)


class Candidates:
    """The files of ``folder`` that ``rules`` take, or its sub-folders, which are to be packed into ``spool``.

    Nothing is taken that is the program's ``own``. ``said`` is told of what is passed over, and of what cannot be
    looked at.
    """

    def __init__(self, folder: Path, rules: WatchRules, own: OwnPlaces, spool: Path, said: Said) -> None:
        self._folder, self._rules, self._own, self._spool, self._said = folder, rules, own, spool, said

    def look(self, names: Iterable[str] | None, known: Mapping[str, str]) -> Iterator[tuple[str, Candidate | None]]:
        """The name of each file that is there, of these ``names`` or of all, and the candidate that it is.

        One that has a ``known`` fingerprint is none. Raises SourceError where the folder cannot be read.
        """
        passed_over: dict[str, list[str]] = {}
        for name, found in self._entries(names):
            if isinstance(found, FileNotFoundError):
                continue
            candidate = None
            if not self._rules.is_ours(name):
                try:
                    candidate = self._candidate(name, found, known, passed_over)
                except Exception as error:  # noqa: BLE001 - whatever it is, it is of this file
                    self._said.problem(name, "", error)
            yield name, candidate
        for reason, others in passed_over.items():
            self._said.passed_over(reason, others)

    def _entries(self, names: Iterable[str] | None) -> Iterator[tuple[str, os.stat_result | OSError]]:
        if names is not None:
            yield from ((name, _status(self._folder / name)) for name in names)
            return
        with _reading(self._folder), os.scandir(self._folder) as entries:
            yield from ((entry.name, _status(entry)) for entry in entries)

    def _candidate(
        self,
        name: str,
        found: os.stat_result | OSError,
        known: Mapping[str, str],
        passed_over: dict[str, list[str]],
    ) -> Candidate | None:
        if isinstance(found, OSError):
            raise found
        if self._own.holds(identity(found)):
            return None
        reason = self._rules.why_not(name, found.st_mode)
        if reason:
            passed_over.setdefault(reason, []).append(name)
        if reason is not None:
            return None
        if self._rules.packs:
            candidate = _folder_at(self._folder / name, found, self._spool)
            return None if candidate.fingerprint == known.get(name) else candidate
        fingerprint = fingerprint_of(found)
        if fingerprint == known.get(name):
            return None
        path = self._folder / name
        return Candidate(path, fingerprint, path, found.st_mtime, found.st_ctime)


def names_in(folder: Path) -> set[str]:
    """The names of all that is in the folder. Raises SourceError where it cannot be read."""
    with _reading(folder):
        return set(os.listdir(folder))


@contextmanager
def _reading(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise explained(error, f"cannot read the folder {folder}", SourceError) from error


def fingerprint_at(path: Path, known_as: Path) -> str:
    """The fingerprint of a candidate that is at ``path`` now, and was at ``known_as``. Raises OSError."""
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode):
        return fingerprint_of(found)
    return _fingerprint_of_tree(path, known_as, files_within(path))


def _folder_at(path: Path, own: os.stat_result, spool: Path) -> Candidate:
    found = list(files_within(path))
    fingerprint = _fingerprint_of_tree(path, path, found)
    return Candidate(
        path,
        fingerprint,
        SpoolKind.PACKED.path(spool, f"{_digest(f'{path} {fingerprint}')}.tar"),
        max(status.st_mtime for status in (own, *(status for _, status in found))),
        max(status.st_ctime for status in (own, *(status for _, status in found))),
    )


def _fingerprint_of_tree(folder: Path, known_as: Path, within: Iterable[tuple[Path, os.stat_result]]) -> str:
    files = (f"{known_as / path.relative_to(folder)} {fingerprint_of(found)}" for path, found in within)
    return _digest("\n".join(sorted(files)))


def files_within(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """The path and the status of each file in ``folder`` and below, and of each link to a folder."""
    for place, folders, names in os.walk(folder):
        links = [name for name in folders if Path(place, name).is_symlink()]
        for name in [*names, *links]:
            path = Path(place, name)
            with suppress(OSError):  # gone since: the next look sees another fingerprint
                yield path, path.lstat()


def _status(entry: "os.DirEntry[str] | Path") -> os.stat_result | OSError:
    try:
        return entry.stat(follow_symlinks=False)
    except OSError as error:
        return error


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()
