"""The files and folders in a drop folder that could become jobs."""

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ..bundle.fingerprint import fingerprint_of
from ..errors import SourceError
from ..jobs.spool import SpoolKind
from .own import OwnPlaces, identity
from .rules import WatchRules


@dataclass(frozen=True, slots=True)
class Candidate:
    """A file or folder at ``path``; ``fingerprint`` changes with it, and ``source`` is the file that its job is of."""

    path: Path
    fingerprint: str
    source: Path


def candidates_in(folder: Path, rules: WatchRules, spool: Path, own: OwnPlaces) -> Iterator[Candidate]:
    """The files that ``rules`` look for in ``folder``, or the sub-folders that are to be packed into ``spool``.

    Nothing is taken that is the program's ``own``. Raises SourceError where the folder cannot be read.
    """
    owned = own.identities()
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if rules.is_wanted(entry.name))
    except OSError as error:
        raise SourceError(f"cannot read the folder {folder}: {error.strerror}") from error
    for name in names:
        path = folder / name
        try:
            found = path.lstat()
        except OSError:  # gone since
            continue
        if identity(found) in owned:
            continue
        # A link's target may change without a trace here; a FIFO would block whoever opens it.
        if rules.template is None and stat.S_ISREG(found.st_mode):
            yield Candidate(path, fingerprint_of(found), path)
        elif rules.template is not None and stat.S_ISDIR(found.st_mode):
            fingerprint = _fingerprint_of_tree(path, path)
            yield Candidate(path, fingerprint, SpoolKind.PACKED.path(spool, f"{_digest(f'{path} {fingerprint}')}.tar"))


def fingerprint_at(path: Path, known_as: Path) -> str:
    """The fingerprint of a candidate that is at ``path`` now, and was at ``known_as``. Raises OSError."""
    found = path.lstat()
    return _fingerprint_of_tree(path, known_as) if stat.S_ISDIR(found.st_mode) else fingerprint_of(found)


def _fingerprint_of_tree(folder: Path, known_as: Path) -> str:
    found = []
    for place, folders, names in os.walk(folder):
        links = [name for name in folders if Path(place, name).is_symlink()]
        for name in [*names, *links]:
            path = Path(place, name)
            with suppress(OSError):  # gone since: the next look sees another fingerprint
                found.append(f"{known_as / path.relative_to(folder)} {fingerprint_of(path.lstat())}")
    return _digest("\n".join(sorted(found)))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()
