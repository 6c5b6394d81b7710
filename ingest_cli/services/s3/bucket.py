"""The objects of an archive in storage that speaks S3, as obstore asks for them, which sends again what was not
answered."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError

from ...bundle.content import CHUNK_BYTES
from ...errors import ArchiveError, ServiceUnavailable
from ...settings import ObjectStore, S3Access
from .copies import MOST_COPIED
from .faults import FAILURES, explained, is_not_there, is_unknown, may_have_ended, may_pass, was_cut_short
from .objects import Stored, bare
from .parts import MOST_PARTS
from .patience import Patience
from .signed import LISTED_AT_ONCE, SignedBucket
from .stores import Stores

if TYPE_CHECKING:
    from obstore import Attributes, GetOptions, GetResult

T = TypeVar("T")

# Amazon's takes no more objects in one request to delete them.
MOST_DELETED = 1000
PART_BYTES = 8 << 20
# What the parts of one upload that are on their way may take of the memory.
PARTS_BYTES = 32 << 20


class Bucket(SignedBucket):
    """The objects of ``place``, reached by ``access``, from as many threads as like to. Raises as a SignedBucket."""

    def __init__(self, place: ObjectStore, access: S3Access, connections: int, most_copied: int = MOST_COPIED) -> None:
        super().__init__(place, access, connections, most_copied)
        self._stores = Stores(place, access, self._credentials)
        self._takes_conditions = True

    def put(self, key: str, data: bytes, notes: dict[str, str], action: str, *, create: bool) -> str | None:
        """Store an object at once and return its tag; None where ``create`` found another, if storage looks."""
        create = create and self._takes_conditions
        with self._explaining(action):
            try:
                done = obstore.put(
                    self._stores.sending(len(data)),
                    self._below + key,
                    data,
                    attributes=_attributes(notes),
                    mode="create" if create else "overwrite",
                    use_multipart=False,
                )
            except AlreadyExistsError as error:
                if may_pass(error) or not create:
                    raise
                return None
            except BaseError as error:
                if not (create and is_unknown(error)):
                    raise
                # There is storage that does not look, and storage that says so.
                self._takes_conditions = False
                return self.put(key, data, notes, action, create=False)
        return bare(done["e_tag"])

    def upload(self, key: str, chunks: Iterable[bytes], size: int, notes: dict[str, str], action: str) -> str:
        """Store an object of ``size`` bytes in parts and return its tag. Where the chunks end with an error, nothing is
        stored, and it is raised as it is."""
        part = part_bytes(size)
        with self._explaining(action):
            done = obstore.put(
                self._stores.sending(part),
                self._below + key,
                iter(chunks),
                attributes=_attributes(notes),
                use_multipart=True,
                chunk_size=part,
                max_concurrency=max(1, PARTS_BYTES // part),
            )
        return bare(done["e_tag"])

    def find(self, key: str, action: str) -> Stored | None:
        """The object; None where there is none."""
        with self._explaining(action):
            try:
                found = obstore.get(self._stores.reader, self._below + key, options={"head": True})
            except FileNotFoundError:
                return None
        notes = {name: text for name, text in found.attributes.items() if isinstance(text, str)}
        return Stored(found.meta["size"], bare(found.meta["e_tag"]), notes)

    def get(self, key: str, start: int, action: str) -> Iterator[bytes] | None:
        """The bytes of an object from ``start`` on, which there are, in pieces; None where there is no object."""
        opened = self._whole(lambda: self._opened(key, start), action)
        return None if opened is None else self._pieces(key, *opened, start, action)

    def read(self, key: str, etag: str, action: str) -> memoryview | None:
        """All of an object that has this tag; None where it has another one by now, or is not there."""
        return self._whole(lambda: self._tagged(key, etag), action)

    def piece(self, key: str, start: int, stop: int, action: str) -> bytes | None:
        """The bytes of an object from ``start`` up to ``stop``, or to its end; None where there is no object."""
        return self._whole(lambda: self._between(key, start, stop), action)

    def _between(self, key: str, start: int, stop: int) -> bytes | None:
        try:
            return bytes(obstore.get_range(self._stores.reader, self._below + key, start=start, end=stop))
        except FileNotFoundError as error:
            if not is_not_there(error):
                raise
            return None
        except BaseError as error:
            if "non-partial" not in str(error):
                raise
            # Some storage sends all of it.
            return bytes(obstore.get(self._stores.reader, self._below + key).bytes())[start:stop]

    def _tagged(self, key: str, etag: str) -> memoryview | None:
        try:
            found = obstore.get(self._stores.reader, self._below + key, options={"if_match": f'"{etag}"'})
            # Some storage does not look at the condition.
            return memoryview(found.bytes()) if bare(found.meta["e_tag"]) == etag else None
        except PreconditionError:
            return None
        except FileNotFoundError as error:
            if not is_not_there(error):
                raise
            return None

    def _opened(self, key: str, start: int) -> "tuple[GetResult, int] | None":
        """The object from ``start`` on, and how many bytes of it are to be skipped all the same."""
        options: GetOptions = {"range": {"offset": start}} if start else {}
        try:
            return obstore.get(self._stores.reader, self._below + key, options=options), 0
        except FileNotFoundError as error:
            if not is_not_there(error):
                raise
            return None
        except BaseError as error:
            if not start or "non-partial" not in str(error):
                raise
            # Some storage sends all of it.
            return obstore.get(self._stores.reader, self._below + key), start

    def _pieces(self, key: str, found: "GetResult", skipped: int, position: int, action: str) -> Iterator[bytes]:
        size, patience = found.meta["size"], Patience(self.access.timeout)
        while position < size:
            try:
                with self._explaining(action):
                    for piece in found.stream(CHUNK_BYTES):
                        taken = bytes(memoryview(piece)[skipped:])
                        skipped -= len(piece) - len(taken)
                        position += len(taken)
                        if taken:
                            patience = Patience(self.access.timeout)
                            yield taken
            except ServiceUnavailable as error:
                patience.wait(error)
            if position < size:
                opened = self._whole(lambda start=position: self._opened(key, start), action)  # type: ignore[misc]
                if opened is None:
                    raise ArchiveError(f"cannot {action} in {self.place}: {self.location(key)} is gone")
                found, skipped = opened

    def keys(self, folder: str, action: str) -> Iterator[tuple[str, int]]:
        """The keys of all objects below a folder, or of the archive where it is empty, and their sizes."""
        prefix = f"{self._below}{folder}".strip("/") or None
        last: str | None = None
        patience, is_whole = Patience(self.access.timeout), False
        while not is_whole:
            try:
                with self._explaining(action):
                    for page in obstore.list(self._stores.reader, prefix, offset=last, chunk_size=LISTED_AT_ONCE):
                        for entry in page:
                            last = entry["path"]
                            yield last.removeprefix(self._below), entry["size"]
                is_whole = True
            except ServiceUnavailable as error:
                if not was_cut_short(error):
                    raise
                patience.wait(error)

    def delete(self, keys: Sequence[str], action: str) -> None:
        """Delete objects; one that is not there is no error."""
        for first in range(0, len(keys), MOST_DELETED):
            with self._explaining(action):
                wanted = [self._below + key for key in keys[first : first + MOST_DELETED]]
                obstore.delete(self._stores.sending(0), wanted)

    @contextmanager
    def _explaining(self, action: str) -> Iterator[None]:
        keyed = self._credentials.access()
        try:
            yield
        except FAILURES as error:
            # A file of this machine that is not there is no fault of storage.
            if isinstance(error, FileNotFoundError) and error.errno is not None:
                raise
            if may_have_ended(error) and self._credentials.renew(keyed.key_id):
                self._stores.make()
                renewed = f"cannot {action} in {self.place} at {self.access.endpoint}: its access key has ended"
                raise ServiceUnavailable(f"{renewed}, and there is another one by now") from error
            raise explained(error, self.place, self.access, action) from error

    def _whole(self, call: Callable[[], T], action: str) -> T:
        """What a call has from storage, which is made again where an answer was cut short: obstore does not do so."""
        patience = Patience(self.access.timeout)
        while True:
            try:
                with self._explaining(action):
                    return call()
            except ServiceUnavailable as error:
                if not was_cut_short(error):
                    raise
                patience.wait(error)


def part_bytes(size: int) -> int:
    """How long the parts of an object of so many bytes are: no more of them than storage takes."""
    least = -(-size // MOST_PARTS)
    return max(PART_BYTES, (least + CHUNK_BYTES - 1) // CHUNK_BYTES * CHUNK_BYTES)


def _attributes(notes: dict[str, str]) -> "Attributes":
    return {"Content-Type": "application/octet-stream", **notes}
