"""The archive in storage that speaks S3: an object for each file, under a key of its id.

Storage of this kind renames nothing, and what it is asked for is carried out even if it comes late. So the key has the
fence of the run that wrote the object, too: no run ever writes under a key of another, and a run that was frozen, while
another took its job over, can change nothing of what the other has stored. Of several objects of one file any holds
what was recorded, since an object appears whole, and only once its bytes have been found right.

- A file that one request takes is sent when all of it has been hashed. What is larger goes in parts, which make an
  object when all of them have been hashed, and not before.
- The next run of a job puts an end to the uploads of earlier ones: they cannot be finished any more.
- What it stores anew it deletes of earlier runs; what they have noted as stored stays. Who rolls back deletes what runs
  up to its own have left, and nobody but them: a run that is undone, and thaws later, deletes nothing of a later one.
- A run that thaws just before it sends a small file has an object appear, and deletes it when it learns that the job
  is another's. What a run that never thaws has on its way may stay. Where the job was rolled back, or had ended, that
  is an orphan, as is an upload that nobody ended: both are listed as such.
- Small files may go into packs, which are objects too, and of which all of that holds. A pack has files of one run, and
  its key the fence of that. None of its files is stored before all are. It is deleted when none of its files is needed:
  what a later run stores anew is then there twice, which harms nobody.
"""

from collections.abc import Callable, Collection, Generator, Iterator
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from ...errors import ArchiveError
from ...settings import ObjectStore, S3Access
from ...text import duration
from ..base import ArchivedFile, Memory
from .bucket import Bucket
from .copies import MOST_COPIED
from .keys import FILES_A_FOLDER, USUAL_FENCE, folder_of, key_of, parsed, parsed_pack
from .listing import listed
from .mark import Mark
from .pack_format import Packed
from .packs import Gone, Pack, Packs
from .tryout import try_out
from .writer import S3Writer

UPLOAD = "?uploadId="
FOLDERS_LOOKED_INTO = 8
# A clock may differ by this much without anyone noticing.
CLOCK_SLACK = timedelta(minutes=1)


class _Object(NamedTuple):
    """An object of its own."""

    key: str
    size: int


class _InPack(NamedTuple):
    """A file in a pack."""

    pack: Pack
    packed: Packed

    @property
    def size(self) -> int:
        return self.packed.size


class S3Archive:
    """Files in ``place``, reached by ``access``, of which as many as ``transfers`` are sent at once. Those of less than
    ``pack_below`` bytes are sent in packs. Objects of more bytes than ``most_copied`` are copied in parts."""

    is_exclusive = False
    stages = False
    waits = True

    def __init__(
        self,
        place: ObjectStore,
        access: S3Access,
        memory: Memory | None = None,
        *,
        transfers: int = 1,
        pack_below: int = 0,
        most_copied: int = MOST_COPIED,
    ) -> None:
        self.transfers, self._pack_below = transfers, pack_below
        self._bucket = Bucket(place, access, transfers, most_copied)
        self._mark = Mark(self._bucket, memory)
        self._packs = Packs(self._bucket)

    def ping(self) -> str:
        """Say where the archive is, having written, read and deleted an object; and what the storage lacks."""
        is_new = self._mark.is_to_be_made
        if not is_new:
            self._mark.make()
        looks = try_out(self._bucket)
        detail = f"{self._bucket.place} at {self._bucket.access.endpoint}"
        if is_new:
            detail += ": not there yet"
        if not looks:
            detail += "; it has no conditional writes, so that only ids and fences keep files from being overwritten"
        return f"{detail}{self._clock_difference()}"

    def close(self) -> None:
        """Close the connections."""
        self._bucket.close()

    def free_bytes(self) -> int | None:
        """None: storage does not say."""
        return None

    def require_room(self, total_bytes: int) -> None:
        """Raise ServiceUnavailable where storage does not answer, which is all that can be asked of it."""
        self._mark.make()

    def shares(self, descriptor: int) -> bool:
        """False: what is sent is stored anew."""
        return False

    def require_free(self, ids: range) -> None:
        """Raise ArchiveError where a file is stored under one of ``ids``.

        Of many, the first and the last are looked for: ids that are given out once more begin with the first.
        """
        folders = range(ids.start - ids.start % FILES_A_FOLDER, ids.stop, FILES_A_FOLDER)
        for first in sorted({*folders[:FOLDERS_LOOKED_INTO], *folders[-FOLDERS_LOOKED_INTO:]}):
            for key, _ in self._bucket.keys(folder_of(first), f"look for files {ids.start} to {ids.stop - 1}"):
                file, pack = parsed(key), parsed_pack(key)
                # What lies between files of one job is that job's too.
                found = file[0] if file is not None and file[0] in ids else None
                if pack is not None and pack.first < ids.stop and pack.last >= ids.start:
                    found = pack.first
                if found is not None:
                    raise ArchiveError(
                        f"the archive already holds file {found} ({self._bucket.location(key)}), which belongs to"
                        " another job: does the id store belong to this archive?"
                    )

    def writer(self, ids: range, fence: int, *, resumed: bool, require: Callable[[], None] | None = None) -> S3Writer:
        """The writer of this run; earlier runs finish no upload from now on."""
        self._mark.make()
        if ids:
            self._mark.note()
        return S3Writer(
            self._bucket,
            ids,
            fence,
            resumed=resumed,
            require=require or (lambda: None),
            tags_are_sums=self._mark.tags_are_sums,
            read=self.read,
            packs=self._packs,
            pack_below=self._pack_below,
        )

    def stat(self, file_id: int) -> int | None:
        """The stored size in bytes; None where the archive holds no such file."""
        self._mark.require()
        found = self._find(file_id, f"look for file {file_id}")
        return None if found is None else found.size

    def read(self, file_id: int, start: int = 0) -> Generator[bytes, None, None]:
        """The stored bytes from ``start`` on, in pieces."""
        action = f"read file {file_id}"
        self._mark.require()
        packed = self._packs.find(file_id)
        if packed is None and start == 0:
            pieces = self._bucket.get(key_of(file_id, USUAL_FENCE), 0, action)
            if pieces is not None:
                yield from pieces
                return
        found = self._find(file_id, action)
        if found is None:
            raise ArchiveError(f"cannot read file {file_id} from {self._bucket.place}: it is not there")
        if start >= found.size:
            return
        if isinstance(found, _InPack):
            try:
                yield self._packs.read(found.pack, found.packed)[start:]
            except Gone:
                # A run that resumes the job has just stored the file anew.
                self._packs.forget(folder_of(file_id))
                yield from self.read(file_id, start)
        else:
            yield from self._bucket.get(found.key, start, action) or ()

    def is_unchanged(self, file_id: int, observe: Callable[[int], None]) -> bool | None:
        """None: its bytes would have to be read, as for the recorded hash, which is noted with it too."""
        return None

    def list_files(self) -> Iterator[ArchivedFile]:
        """Every object of the archive, and every upload that is not finished."""
        if self._mark.is_to_be_made:
            return
        self._mark.require()
        yield from listed(self._bucket, self._packs)
        for upload in self._bucket.uploads("list unfinished uploads"):
            ours = parsed(upload.key)
            location = f"{self._bucket.location(upload.key)}{UPLOAD}{upload.upload_id}"
            yield ArchivedFile(location=location, run_of=None if ours is None else ours[0])

    def still_holds(self, file: ArchivedFile) -> bool:
        """Whether what was listed is there now."""
        if file.beside:
            # Others of its pack may be stored elsewhere by now.
            self._packs.forget(folder_of(file.beside[0]))
            return file.file_id is not None and self.stat(file.file_id) is not None
        location, _, upload_id = file.location.partition(UPLOAD)
        key, action = self._bucket.key_at(location), f"look for {location}"
        if upload_id:
            return any((found.key, found.upload_id) == (key, upload_id) for found in self._bucket.uploads(action))
        return self._bucket.find(key, action) is not None

    def own_files(self, inodes: Collection[tuple[int, int]], ids: range) -> set[tuple[int, int]]:
        """None: no file of this machine is one of the archive."""
        return set()

    def _find(self, file_id: int, action: str) -> "_Object | _InPack | None":
        """Where a file lies."""
        if (packed := self._packs.find(file_id)) is not None:
            return _InPack(*packed)
        usual = key_of(file_id, USUAL_FENCE)
        stored = self._bucket.find(usual, action)
        if stored is not None:
            return _Object(usual, stored.size)
        listing = list(self._bucket.keys(folder_of(file_id), action))
        found = [
            (ours[1], _Object(key, size))
            for key, size in listing
            if (ours := parsed(key)) is not None and ours[0] == file_id
        ]
        if found:
            return max(found)[1]
        self._packs.note(folder_of(file_id), listing)
        packed = self._packs.find(file_id, strict=True)
        return None if packed is None else _InPack(*packed)

    def _clock_difference(self) -> str:
        clock, here = self._bucket.clock("list what is stored"), datetime.now(UTC)
        if clock is None or abs(clock - here) < CLOCK_SLACK:
            return ""
        word = "ahead of" if clock > here else "behind"
        return f"; its clock is {duration(abs(clock - here).total_seconds())} {word} this machine's"
