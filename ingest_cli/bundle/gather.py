"""The files that are to be packed into a bundle; and what is left out of it."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from ..disk import explained
from ..errors import PackError
from ..text import counted, listed, quoted
from .entries import Entries
from .header import MAX_NAME_BYTES
from .json_list import MAX_RECORDS
from .pack_rules import PLURALS, PackRules, Reason
from .reader import DATA_FOLDER
from .tree import NOTHING, Entry, Identity, walk

MAX_PROBLEMS = 100
# No document lists more files.
MAX_ENTRIES = MAX_RECORDS // 2
# Links that are followed can make any number of files of a few: it is not waited for that.
MAX_FOLLOWED = 1_000_000


@dataclass(frozen=True, slots=True)
class Gathered:
    """The files to be packed, in order of their names, and what is left out."""

    files: Entries
    left_out: Entries


def gather(
    paths: Sequence[Path],
    rules: PackRules,
    own: Mapping[Identity, Reason] = NOTHING,
    names: Sequence[str] | None = None,
) -> Gathered:
    """Find the files to be packed. What has an identity in ``own`` is left out, for the reason that stands there.

    The files and folders have these ``names`` below ``data/``. Without, the contents of a single folder come directly
    below it, several files and folders under their own names.
    Raises PackError, which names all that cannot be packed, and ResourceUnavailable.
    """
    problems = _Problems()
    files, left_out = Entries(), Entries()
    alone = len(paths) == 1
    # Those of a single folder have names of their own.
    by_name: dict[str, str] | None = None if alone else {}
    names = [_top_name(path, alone=alone) for path in paths] if names is None else names
    tops = zip(paths, names, strict=True)
    found = chain.from_iterable(walk(path, name, rules, problems.note, own) for path, name in tops)
    for number, entry in enumerate(found):
        _require_few(number, rules)
        if entry.reason is None:
            problem = _problem_of(entry, by_name)
            if problem is None:
                files.add(entry)
            else:
                problems.add(problem)
        elif rules.refuses(entry.reason):
            problems.refuse(entry)
        else:
            left_out.add(entry)
    problems.require_none()
    if not files:
        raise _nothing_in(paths, left_out)
    return Gathered(files.sorted_by_name(), left_out)


def _require_few(count: int, rules: PackRules) -> None:
    if rules.dereference and count == MAX_FOLLOWED:
        raise PackError(f"there are more than {MAX_FOLLOWED:,} files where links are followed")
    if count == MAX_ENTRIES:
        raise PackError(f"a bundle cannot hold more than {MAX_ENTRIES:,} files")


def warnings_of(left_out: Iterable[Entry]) -> list[str]:
    """What is left out: for each reason a sentence that names the first of it."""
    names: dict[Reason | None, list[str]] = {}
    for entry in left_out:
        names.setdefault(entry.reason, []).append(entry.name)
    reasons = [reason for reason in Reason if reason in names]
    return [
        f"{counted(len(names[reason]), reason, PLURALS.get(reason, ''))} left out: {listed(names[reason])}"
        for reason in reasons
    ]


class _Problems:
    """What cannot be packed."""

    def __init__(self) -> None:
        self._found: list[str] = []
        self._refused = False

    def add(self, problem: str) -> None:
        """Note a problem."""
        self._found.append(problem)

    def note(self, path: str, error: OSError) -> None:
        """Note what cannot be looked at. Raises ResourceUnavailable where that passes."""
        problem = explained(error, path, PackError)
        if problem.transient:
            raise problem from error
        self.add(str(problem))

    def refuse(self, entry: Entry) -> None:
        """Note what is neither a file nor a folder."""
        self.add(f"{entry.path} is a {entry.reason}")
        self._refused = True

    def require_none(self) -> None:
        """Raise PackError where there are any."""
        if not self._found:
            return
        error = PackError(f"cannot be packed: {self._found[0]}")
        for problem in self._found[1:MAX_PROBLEMS]:
            error.add_note(problem)
        if len(self._found) > MAX_PROBLEMS:
            error.add_note(f"and {len(self._found) - MAX_PROBLEMS:,} more")
        if self._refused:
            error.add_note("--skip-special leaves out all but files and folders; --dereference follows links")
        raise error


def _top_name(path: Path, *, alone: bool) -> str:
    if path.is_symlink() or not path.is_dir():
        return path.name
    return "" if alone else path.resolve().name


def _problem_of(entry: Entry, by_name: dict[str, str] | None) -> str | None:
    try:
        length = len(f"{DATA_FOLDER}{entry.name}".encode())
    except UnicodeEncodeError:
        return f"{quoted(entry.location)} is not valid UTF-8"
    if length > MAX_NAME_BYTES:
        return f"{quoted(entry.name)} is too long for a bundle: its names have at most {MAX_NAME_BYTES:,} bytes"
    if by_name is not None and by_name.setdefault(entry.name, entry.location) is not entry.location:
        return f"{entry.location} and {by_name[entry.name]} would both be {DATA_FOLDER}{entry.name}"
    return None if os.access(entry.location, os.R_OK) else _why_unreadable(entry.path)


def _why_unreadable(path: Path) -> str | None:
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError as error:
        return f"{path}: {error.strerror}"
    return None


def _nothing_in(paths: Sequence[Path], left_out: Entries) -> PackError:
    error = PackError(f"there are no files in {', '.join(map(str, paths))}")
    for warning in warnings_of(entry for entry in left_out if entry.name):
        error.add_note(warning)
    return error
