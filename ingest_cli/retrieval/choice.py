"""Some of a job's files, by their paths in the bundle and those of its folders, with ``data/`` or without."""

from collections.abc import Iterable, Iterator, Sequence

from ..bundle.reader import METADATA_NAME
from ..errors import FileNotRecorded
from ..services.base import StoredFile
from ..services.query import TOP_FOLDER
from ..text import quoted


def choose_files(job_id: int, files: Sequence[StoredFile], paths: Iterable[str]) -> list[StoredFile]:
    """Those of the ``files`` of a job that have one of the ``paths``, or lie in one, in their order.

    Raises FileNotRecorded for a path that there is not.
    """
    wanted = {path: _spellings(path) for path in paths}
    candidates = {spelling for spellings in wanted.values() for spelling in spellings}
    there = {place for file in files for place in _places(file.path) if place in candidates}
    chosen = set()
    for path, spellings in wanted.items():
        found = next((spelling for spelling in spellings if spelling in there), None)
        if found is None:
            raise FileNotRecorded(f"job {job_id} has no file or folder {quoted(path)}; {_hint(job_id)}")
        chosen.add(found)
    return [file for file in files if any(place in chosen for place in _places(file.path))]


def named_files(job_id: int, files: Iterable[StoredFile], paths: Sequence[str]) -> list[StoredFile]:
    """For each of the ``paths`` the file of the job. Raises FileNotRecorded where it is none."""
    candidates = {spelling for path in paths for spelling in _spellings(path)}
    there = {file.path: file for file in files if file.path in candidates}
    named = []
    for path in paths:
        found = next((there[spelling] for spelling in _spellings(path) if spelling in there), None)
        if found is None:
            raise FileNotRecorded(f"job {job_id} has no file {quoted(path)}; {_hint(job_id)}")
        named.append(found)
    return named


def _hint(job_id: int) -> str:
    return f"'ingest ls {job_id}' lists what it has, beside {METADATA_NAME}"


def _spellings(path: str) -> tuple[str, str]:
    """How a path may be meant, the likelier first."""
    path = path.removeprefix("./").rstrip("/")
    return path, TOP_FOLDER + path


def _places(path: str) -> Iterator[str]:
    """The path, and the folders that it lies in."""
    while path:
        yield path
        path = path.rpartition("/")[0]
