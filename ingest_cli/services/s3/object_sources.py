"""Moved files that are objects of the storage itself, which copies them: each is named /BUCKET/KEY."""

from pathlib import Path
from urllib.parse import quote

from ...errors import ArchiveError, RollbackFailed, ServiceUnavailable, SourceMissing, SourceRefused
from ...text import counted
from .bucket import Bucket
from .notes import SOURCE, SOURCE_TAG
from .objects import At, Stored


class ObjectSources:
    """The objects from which files of the archive in ``bucket`` are copied, and how they get back."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket

    def find(self, source: Path, size: int, action: str) -> Stored:
        """The object, which is to be of this size and none of the archive's own."""
        bucket, key = _object_at(source)
        own = self._bucket.place
        if bucket == own.bucket and f"{key}/".startswith(f"{own.prefix}/" if own.prefix else ""):
            raise SourceRefused(f"the source s3:/{source} is one of the archive's own objects")
        found = self._bucket.object_at(bucket, key, action)
        if found is None:
            raise SourceMissing(f"the source s3:/{source} does not exist")
        if found.size != size:
            raise SourceMissing(f"the source s3:/{source} is {counted(found.size, 'byte')} long, not {size:,}")
        return found

    def copy(self, source: Path, found: Stored, key: str, action: str) -> None:
        """Have storage copy what was found to an object of the archive, and see that it is whole."""
        notes = {SOURCE: quote(str(source)), SOURCE_TAG: found.etag}
        copied = Stored(found.size, found.etag, notes)
        self._bucket.copy(_object_at(source), self._bucket.whole(key), copied, action)
        stored = self._bucket.find(key, action)
        if stored is None or stored.size != found.size:
            raise ServiceUnavailable(f"s3:/{source} was not copied whole to {self._bucket.location(key)}")

    def tag_of(self, key: str, source: Path) -> str | None:
        """The tag of the object of which the file is a copy; None where the source is a file of this machine."""
        found = self._bucket.find(key, f"look at {key}")
        is_of = found is not None and found.notes.get(SOURCE) == quote(str(source))
        return found.notes.get(SOURCE_TAG, "") if found is not None and is_of else None

    def copy_back(self, file_id: int, key: str, source: Path, tag: str) -> None:
        """Have the object be there that was copied. One that was brought back before has another tag, of which it was
        noted."""
        action = f"move back file {file_id}"
        there = self._bucket.object_at(*_object_at(source), action)
        if there is not None and tag not in (there.etag, there.notes.get(SOURCE_TAG)):
            raise RollbackFailed(
                f"the archive still holds {self._bucket.location(key)}: another object is at s3:/{source}"
            )
        own = self._bucket.find(key, action)
        if there is None and own is not None:
            copied = Stored(own.size, own.etag, {SOURCE_TAG: tag})
            self._bucket.copy(self._bucket.whole(key), _object_at(source), copied, action)

    def release(self, source: Path, tag: str) -> None:
        """Delete the object that was copied, if it still is that."""
        action = f"delete s3:/{source}, which was moved"
        there = self._bucket.object_at(*_object_at(source), action)
        if there is not None and there.etag != tag:
            raise ArchiveError(f"s3:/{source} was modified after it was moved, so it is kept")
        if there is not None:
            self._bucket.delete_at(*_object_at(source), action)


def _object_at(source: Path) -> At:
    """The bucket and the key of the object that a source names."""
    _, bucket, *key = source.parts
    return bucket, "/".join(key)
