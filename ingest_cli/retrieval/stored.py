"""What is stored of a job: its files, under their names in the bundle, and the document that lists them."""

import json
from collections.abc import Collection, Iterator
from datetime import UTC, datetime
from functools import cached_property

from ..bundle.metadata import Document
from ..bundle.reader import METADATA_NAME
from ..errors import JobNotRecorded
from ..services.base import Catalog, StoredFile
from .choice import choose_files
from .layout import Layout, Member


class Stored:
    """A recorded job: ``named`` are its files, each after its checked name in the bundle; ``records`` those of its
    document that are not of files, ``document`` all of it, and ``layout`` the bundle. With ``paths``, it is as if the
    job had only the files that have one of these, or lie in one.

    Raises JobNotRecorded, FileNotRecorded, and MetadataError for a name that points outside the bundle, which another
    program's catalogue may hold.
    """

    def __init__(self, catalog: Catalog, job_id: int, paths: Collection[str] = ()) -> None:
        if not catalog.contains(job_id):
            raise JobNotRecorded(f"the catalogue has no record of job {job_id}")
        files = list(catalog.files(job_id))
        self.records = catalog.metadata(job_id)
        if paths:
            files = choose_files(job_id, files, paths)
            described = {None, *(file.file_id for file in files)}
            self.records = [record for record in self.records if record.get("file_id") in described]
        records = [*self.records, *(file.as_record() for file in files)]
        self.document = json.dumps(records, ensure_ascii=False).encode()
        entries = Document.of(records).files
        self.named = list(zip((entry.path for entry in entries), files, strict=True))
        self.layout = Layout(self._members())

    @property
    def total_bytes(self) -> int:
        """The sizes of its files."""
        return sum(file.size for _, file in self.named)

    @cached_property
    def by_name(self) -> dict[str, StoredFile]:
        """The files by their names in the bundle."""
        return dict(self.named)

    @cached_property
    def by_id(self) -> dict[int, StoredFile]:
        """The files by their ids."""
        return {file.file_id: file for _, file in self.named}

    def _members(self) -> Iterator[Member]:
        for name, file in self.named:
            yield Member(name, mtime_of(file), file)
        yield Member(METADATA_NAME, 0, self.document)


def mtime_of(file: StoredFile) -> int:
    """When the file was changed, in seconds since 1970; 0 where the catalogue does not say so in ISO 8601."""
    try:
        when = datetime.fromisoformat(file.mtime or "")
    except ValueError:
        return 0
    return int((when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp())
