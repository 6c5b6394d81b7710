"""Some of a job's files, by their paths in the bundle and those of its folders, with ``data/`` or without."""

from collections.abc import Iterable, Iterator, Sequence

from ..bundle.reader import METADATA_NAME
from ..errors import FileNotRecorded
from ..services.base import StoredFile
from ..services.query import TOP_FOLDER, composed
from ..text import quoted


def choose_files(job_id: int, files: Sequence[StoredFile], paths: Iterable[str]) -> list[StoredFile]:
    """Those of the ``files`` of a job that have one of the ``paths``, or lie in one, in their order.

    Raises FileNotRecorded for a path that there is not.
    """
    wanted = _Wanted(paths)
    for file in files:
        for place in _places(file.path):
            wanted.note(place)
    chosen = set(wanted.found(f"job {job_id} has no file or folder", job_id))
    return [file for file in files if any(place in chosen for place in _places(file.path))]


def named_files(job_id: int, files: Iterable[StoredFile], paths: Iterable[str]) -> list[StoredFile]:
    """For each of the distinct ``paths`` the file of the job. Raises FileNotRecorded where it is none."""
    wanted = _Wanted(paths)
    there = {file.path: file for file in files if wanted.note(file.path)}
    return [there[path] for path in wanted.found(f"job {job_id} has no file", job_id)]


class _Wanted:
    """The paths that are wanted, and what they mean of all that there is."""

    def __init__(self, paths: Iterable[str]) -> None:
        self._spellings = {path: _spellings(path) for path in paths}
        self._keys = {composed(spelling) for spellings in self._spellings.values() for spelling in spellings}
        self._there: dict[str, str] = {}

    def note(self, place: str) -> bool:
        """Note that there is such a file or folder; whether it may be meant."""
        key = composed(place)
        if key not in self._keys:
            return False
        # One that is there as it was written is meant before one in another Unicode form.
        self._there.setdefault(key, place)
        self._there[place] = place
        return True

    def found(self, complaint: str, job_id: int) -> Iterator[str]:
        """What each path means. Raises FileNotRecorded where that is nothing."""
        for path, spellings in self._spellings.items():
            keys = (key for spelling in spellings for key in (spelling, composed(spelling)))
            place = next((self._there[key] for key in keys if key in self._there), None)
            if place is None:
                hint = f"'ingest ls {job_id}' lists what it has, beside {METADATA_NAME}"
                raise FileNotRecorded(f"{complaint} {quoted(path)}; {hint}")
            yield place


def _spellings(path: str) -> tuple[str, str]:
    """How a path may be meant, the likelier first."""
    path = path.removeprefix("./").rstrip("/")
    return path, TOP_FOLDER + path


def _places(path: str) -> Iterator[str]:
    """The path, and the folders that it lies in."""
    while path:
        yield path
        path = path.rpartition("/")[0]
