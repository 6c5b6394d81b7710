"""Everything that lies in an archive: which files, which of them are superseded, and what is nobody's."""

from collections.abc import Iterator
from itertools import groupby

from ...errors import ArchiveError
from ..base import ArchivedFile
from .bucket import Bucket
from .keys import MARK_NAME, PackKey, parsed, parsed_pack
from .packs import Packs

# Of several objects that hold a file the one of the latest run counts, and of two such the one that is no pack.
Rank = tuple[int, bool]


def listed(bucket: Bucket, packs: Packs) -> Iterator[ArchivedFile]:
    """Every object of the archive: for a pack each of its files, or the pack where none of them counts."""
    listing = ((key, size) for key, size in bucket.keys("", "list what is stored") if key != MARK_NAME)
    for folder, objects in groupby(listing, lambda listed: "/".join(listed[0].split("/")[:2])):
        yield from _Listing(bucket, packs, folder, list(objects)).files()


class _Listing:
    """What lies in one folder."""

    def __init__(self, bucket: Bucket, packs: Packs, folder: str, objects: list[tuple[str, int]]) -> None:
        self._bucket = bucket
        self._packs: dict[PackKey, set[int]] = {}
        self._objects = sorted(ours for key, _ in objects if (ours := parsed(key)) is not None)
        self._nobodys = [key for key, _ in objects if parsed(key) is None and parsed_pack(key) is None]
        self._keys = {ours: key for key, _ in objects if (ours := parsed(key)) is not None}
        packs.note(folder, objects)
        for pack in packs.listed(folder):
            try:
                self._packs[pack.key] = set(packs.index(pack))
            except ArchiveError:
                # What it may have held, for which there is nothing else, is not to be taken for nobody's.
                self._packs[pack.key] = set(pack.key.ids) - {file_id for file_id, _ in self._objects}

    def files(self) -> Iterator[ArchivedFile]:
        """Those that count, and what is superseded as what is of its run."""
        for key in self._nobodys:
            yield ArchivedFile(location=self._bucket.location(key))
        latest = self._latest()
        for file_id, fence in self._objects:
            counts = latest[file_id] == (fence, True)
            location = self._bucket.location(self._keys[file_id, fence])
            yield ArchivedFile(
                location=location, file_id=file_id if counts else None, run_of=None if counts else file_id
            )
        for pack, held in self._packs.items():
            location = self._bucket.location(str(pack))
            counting = tuple(sorted(file_id for file_id in held if latest[file_id] == (pack.fence, False)))
            if not counting:
                yield ArchivedFile(location=location, run_of=pack.first)
            for file_id in counting:
                yield ArchivedFile(location=location, file_id=file_id, beside=counting)

    def _latest(self) -> dict[int, Rank]:
        latest: dict[int, Rank] = {}
        for file_id, fence in self._objects:
            latest[file_id] = max(latest.get(file_id, (0, False)), (fence, True))
        for pack, held in self._packs.items():
            for file_id in held:
                latest[file_id] = max(latest.get(file_id, (0, False)), (pack.fence, False))
        return latest
