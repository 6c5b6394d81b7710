"""The files and folders in a drop folder that could become jobs."""

import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from ..bundle.fingerprint import fingerprint_of
from ..bundle.gather import MAX_ENTRIES
from ..bundle.pack_rules import PackRules
from ..bundle.tree import walk
from ..errors import SourceError
from ..jobs.spool import SpoolKind
from .rules import WatchRules


@dataclass(frozen=True, slots=True)
class Candidate:
    """A file or folder at ``path``; ``fingerprint`` changes with it, and ``source`` is the file that its job is of."""

    path: Path
    fingerprint: str
    source: Path


def candidates_in(folder: Path, rules: WatchRules, spool: Path) -> Iterator[Candidate]:
    """The files that ``rules`` look for in ``folder``, or the sub-folders that are to be packed into ``spool``.

    Raises SourceError where the folder cannot be read.
    """
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
        # A link's target may change without a trace here; a FIFO would block whoever opens it.
        if rules.template is None and stat.S_ISREG(found.st_mode):
            yield Candidate(path, fingerprint_of(found), path)
        elif rules.template is not None and stat.S_ISDIR(found.st_mode):
            fingerprint = _fingerprint_of_tree(path, rules.packing)
            yield Candidate(path, fingerprint, SpoolKind.PACKED.path(spool, f"{_digest(f'{path} {fingerprint}')}.tar"))


def _fingerprint_of_tree(folder: Path, packing: PackRules) -> str:
    # What is left out counts too: other rules make no other folder.
    every = replace(packing, exclude=(), default_excludes=False)
    # What cannot be looked at is gone since, or is complained of when it is packed.
    entries = islice(walk(folder, "", every, lambda *_: None), MAX_ENTRIES)
    files = (entry for entry in entries if not stat.S_ISDIR(entry.found.st_mode))
    return _digest("\n".join(sorted(f"{file.path} {fingerprint_of(file.found)}" for file in files)))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()
