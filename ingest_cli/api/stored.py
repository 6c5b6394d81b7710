"""Find what is stored, and get it back."""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from datetime import datetime
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import IO

from ..bundle.folder import FolderRequest
from ..meter import NOBODY, Meter
from ..pipeline.selection import is_of_user, require_recorded
from ..retrieval import restore
from ..retrieval.copies import Copies, look_up
from ..retrieval.layout import Pieces
from ..services.base import StoredFile
from ..services.factory import archive
from ..services.query import FileQuery, hash_of
from ..settings import Settings
from .opening import AnyPath, catalogued, recorded_job, require_several


def restore_bundle(
    job_id: int,
    target: AnyPath | IO[bytes],
    *,
    paths: Iterable[str] = (),
    meter: Meter = NOBODY,
    settings: Settings | None = None,
) -> int:
    """Write a stored job as a bundle to the new file ``target``, or to an open one; return the number of files.

    With ``paths``, only those of its files that have one of these in the bundle, or lie in one.
    """
    require_several(paths)
    with recorded_job(job_id, settings) as (services, recorded):
        if isinstance(target, str | os.PathLike):
            return restore.write_bundle_file(services, recorded, Path(target), list(paths), meter)
        return restore.write_tar(services, recorded, target, list(paths), meter)


def restore_folder(
    job_id: int,
    target: AnyPath,
    *,
    paths: Iterable[str] = (),
    meter: Meter = NOBODY,
    settings: Settings | None = None,
) -> int:
    """Write a stored job's files to the new folder ``target``, and return their number; ``paths`` as for
    `restore_bundle`."""
    require_several(paths)
    with recorded_job(job_id, settings) as (services, recorded):
        return restore.write_folder(services, recorded, Path(target), list(paths), meter)


def rest_of_folder(job_id: int, *, settings: Settings | None = None) -> tuple[int, ...]:
    """The other jobs that have files of the folder which this job is of: it was ingested before, and has grown."""
    with catalogued(settings) as (_, store, site_catalog):
        recorded = require_recorded(store, site_catalog, job_id)
        request = store.request(job_id)
        beyond = FolderRequest.from_text(request).beyond if request else ()
        return tuple(other for other in beyond if other != recorded)


def read_files(job_id: int, paths: Iterable[str], *, settings: Settings | None = None) -> Pieces:
    """Yield the bytes of a stored job's files, by their ``paths`` in the bundle, one after the other.

    They are hashed meanwhile: after what is damaged, ArchiveError is raised, and the file's last bytes never come.
    """
    require_several(paths)
    with recorded_job(job_id, settings) as (services, recorded):
        yield from restore.read_files(services, recorded, list(paths))


def list_files(
    job_id: int, *, note: Callable[[str], None] = lambda _: None, settings: Settings | None = None
) -> Iterator[tuple[int, StoredFile]]:
    """Yield the files of a stored job, each after the job that has it: another one, where that has the content.

    ``note`` is told of that. Raises JobNotRecorded.
    """
    with catalogued(settings) as (_, store, site_catalog):
        recorded = require_recorded(store, site_catalog, job_id)
        if recorded != job_id:
            note(f"job {recorded} has the content of job {job_id}, and its files are listed instead")
        for file in site_catalog.files(recorded):
            yield recorded, file


def find_files(
    *,
    name: str = "",
    path: str = "",
    hashsum: str = "",
    pairs: Iterable[tuple[str, str]] = (),
    project: str = "",
    instrument: int | None = None,
    submitter: int | None = None,
    user: str = "",
    since: datetime | None = None,
    until: datetime | None = None,
    settings: Settings | None = None,
) -> Iterator[tuple[int, StoredFile]]:
    """Yield the stored files of which all that is given holds, each after its job; all files where nothing is given.

    ``name`` and ``path`` are globs, and ``hashsum`` is ``HEX`` or ``TYPE:HEX``; see `FileQuery` for these and the rest.
    With a ``user``, only files of jobs that were submitted in this name and that the job store still has. Raises
    NotFindable where the catalogue cannot be asked.
    """
    digits, hashtypes = hash_of(hashsum) if hashsum else ("", ())
    query = FileQuery(
        name=name,
        path=path,
        hashsum=digits,
        hashtypes=hashtypes,
        pairs=tuple(pairs),
        project=project,
        instrument=instrument,
        submitter=submitter,
        since=since,
        until=until,
    )
    with catalogued(settings) as (_, store, site_catalog):
        for job_id, files in groupby(site_catalog.find(query), key=itemgetter(0)):
            if not user or is_of_user(store, job_id, user):
                yield from files


def find_copies(
    paths: Iterable[AnyPath], *, meter: Meter = NOBODY, settings: Settings | None = None
) -> Iterator[Copies]:
    """Say of each of these files of this machine, and of all in these folders, whether what it holds is stored.

    They are hashed for it. What cannot be read is told in its place, as an ``error``.
    """
    require_several(paths)
    with (
        catalogued(settings) as (settings, store, site_catalog),
        closing(archive(settings, store)) as site_archive,
    ):
        yield from look_up(site_catalog, site_archive, list(map(Path, paths)), meter)
