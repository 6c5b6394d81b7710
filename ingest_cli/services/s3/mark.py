"""The mark of an archive in a bucket: the object by which a site knows that this is its archive.

It is what `embedded.mark` has of a folder: the archive gets it when it is made, and the site remembers it from the
first stored file on, so that another bucket, or another prefix, is not taken for an archive that has lost its files.
"""

import hashlib
import secrets
import time

from ...errors import ResourceUnavailable
from ..base import Memory
from .bucket import Bucket
from .keys import MARK_NAME

WORDS = """\
# By this object ingest knows that this archive is there. Leave it here, and copy it with the archive.
# The line below names the archive. An archive that another site uses too may have a line for each.
"""
FINDING = "find the mark of the archive"
# How long it was seen before it is looked for again.
LOOK_SECONDS = 10.0


class Mark:
    """The mark of the archive in ``bucket``, which ``memory`` knows; without a memory any archive will do.

    Once it was seen, ``tags_are_sums`` says whether the tags of this storage are what its objects hash to.
    """

    def __init__(self, bucket: Bucket, memory: Memory | None) -> None:
        self._bucket, self._memory = bucket, memory
        self._known: str | None = None
        self._seen: float | None = None
        self.tags_are_sums = False

    @property
    def is_to_be_made(self) -> bool:
        """Whether there is no archive, and none is missing."""
        return self._recall() is None and self._read() is None

    def require(self) -> None:
        """Raise ResourceUnavailable where the site's archive is not there, or was not a moment ago."""
        now = time.monotonic()
        if self._seen is None or now - self._seen > LOOK_SECONDS:
            self._require()
            self._seen = now

    def make(self) -> None:
        """Have an archive with a mark: the site's own, which is not made anew, or else a new one."""
        if self._seen is None:
            found = self._read()
            if found is None and self._recall() is None:
                # Who comes second finds the first one's, where storage looks.
                self._write(secrets.token_hex(16), create=True)
            elif found == []:
                # An administrator's word that this is the archive.
                self._write(self._recall() or secrets.token_hex(16), create=False)
        self.require()

    def note(self) -> None:
        """Have the site remember its archive, durably."""
        if self._memory is not None and not self._recall():
            self._memory.note_archive((self._read() or [""])[0])

    def _require(self) -> None:
        known, found = self._recall(), self._read()
        place, mark = self._bucket.place, self._bucket.location(MARK_NAME)
        if found is None:
            raise ResourceUnavailable(
                f"the archive is not in {place}: there is no {mark}. Is it the right bucket? If it is to be the"
                " archive, make an empty object of this name"
            )
        if known and found and known not in found:
            raise ResourceUnavailable(
                f"the archive in {place} is not the one that this site has stored files in. Is it the right bucket?"
                f" To use this archive all the same, add the line {known} to {mark}"
            )

    def _write(self, name: str, *, create: bool) -> None:
        self._bucket.put(MARK_NAME, f"{WORDS}{name}\n".encode(), {}, "begin the archive", create=create)

    def _recall(self) -> str | None:
        # What has a name keeps it.
        if not self._known and self._memory is not None:
            self._known = self._memory.archive()
        return self._known

    def _read(self) -> list[str] | None:
        """The names of the archive, one for each line; None where it has no mark."""
        # First of all what storage says more of than of an object's size, where it refuses it.
        pieces = self._bucket.get(MARK_NAME, 0, FINDING)
        found = self._bucket.find(MARK_NAME, FINDING) if pieces is not None else None
        if found is None or pieces is None:
            # What cannot be said of an object is told of a list: whether there is a bucket.
            next(self._bucket.keys("", FINDING), None)
            return None
        data = b"".join(pieces)
        self.tags_are_sums = found.etag == hashlib.md5(data, usedforsecurity=False).hexdigest()
        lines = data.decode(errors="replace").splitlines()
        return [line.strip() for line in lines if line.strip() and not line.startswith("#")]
