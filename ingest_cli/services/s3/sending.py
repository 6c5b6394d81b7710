"""How an object is sent, so that it is known to be what is stored, or not to be."""

import hashlib
from collections.abc import Callable, Iterator

from ...bundle.content import Content
from ...errors import ArchiveError, ServiceUnavailable
from .bucket import Bucket, part_bytes
from .notes import HASH
from .sums import PartSums, tag_of


class Sender:
    """Sends objects of a run, for which ``require`` raises where it has lost its job.

    Where ``tags_are_sums``, an object of another tag than the one computed here is not what was sent.
    """

    def __init__(self, bucket: Bucket, require: Callable[[], None], *, tags_are_sums: bool) -> None:
        self._bucket, self._require, self._tags_are_sums = bucket, require, tags_are_sums

    def send(self, key: str, data: bytes, notes: dict[str, str], name: str) -> None:
        """Store an object at once; ``notes`` has what it hashes to."""
        action = f"store {name}"
        self._require()
        tag = self._bucket.put(key, data, notes, action, create=True)
        if tag is not None:
            self._confirm(key, len(data), tag, tag_of(data), action)
        elif not self._is_own(key, len(data), notes[HASH], action):
            raise ArchiveError(
                f"the archive already holds {self._bucket.location(key)}, which is not {name}:"
                " does the id store belong to this archive?"
            )

    def upload(self, key: str, content: Content, notes: dict[str, str]) -> None:
        """Store an object in parts; ``notes`` has what it hashes to."""
        action = f"store {content.name!r}"
        sums = PartSums(part_bytes(content.size))
        try:
            tag = self._bucket.upload(key, sums.of(self._until_lost(content)), content.size, notes, action)
        except (ArchiveError, ServiceUnavailable):
            # The last answer may be the one that was lost.
            if not self._is_own(key, content.size, notes[HASH], action):
                raise
        else:
            self._confirm(key, content.size, tag, sums.tag, action)

    def _until_lost(self, content: Content) -> Iterator[bytes]:
        """The chunks; an error, in place of their end, where the run has lost its job, so that nothing is stored."""
        yield from content.chunks()
        self._require()

    def _confirm(self, key: str, size: int, tag: str, expected: str, action: str) -> None:
        """See that what is stored is what was sent: by its tag, else by its size."""
        if tag == expected:
            return
        is_sum = self._tags_are_sums and tag.partition("-")[2] == expected.partition("-")[2]
        found = self._bucket.find(key, action)
        if found is None or found.size != size or is_sum:
            self._bucket.delete([key], action)
            raise ServiceUnavailable(f"{self._bucket.location(key)} was not stored as it was sent, and was deleted")

    def _is_own(self, key: str, size: int, hashed: str, action: str) -> bool:
        """Whether what is stored under the key is what was sent: then the answer to it was lost."""
        found = self._bucket.find(key, action)
        if found is None or found.size != size:
            return False
        noted = found.notes.get(HASH)
        if noted is not None:
            return noted == hashed
        hashtype, _, hashsum = hashed.partition(":")
        digest = hashlib.new(hashtype, usedforsecurity=False)
        for piece in self._bucket.get(key, 0, action) or ():
            digest.update(piece)
        return digest.hexdigest() == hashsum
