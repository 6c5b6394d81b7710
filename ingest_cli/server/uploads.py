"""Resumable uploads: what is known of each, and what is asked of the spool that keeps them.

Some are parts of another, the final one, into which they are joined. Its name follows from theirs: asked for again, by
whoever was not answered, it is the same one.
"""

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ..jobs.job import Job
from ..jobs.store import JobStore
from ..text import counted
from .admission import BUSY_SECONDS
from .authentication import Refusal
from .incoming import Incoming
from .threads import Threads

MAX_UPLOADS = 1000
PARTIAL, FINAL = "partial", "final;"
NAME = "[0-9a-f]{32}"


@dataclass(frozen=True, slots=True)
class Upload:
    """A resumable upload, by its ``name`` in URLs: ``length`` bytes are to come from ``client``, in the name of
    ``user``. A job knows it by its ``source``.

    The length is None as long as the client does not know it. ``metadata`` and ``concat`` are what the client said of
    it: the latter that it is a part of another upload, or of which parts it is to be made. What has come from byte
    ``doubted`` on does not count: its checksum is not known to be right. It ``is_left`` if nothing was added to it for
    too long, as it was found.
    """

    name: str
    source: str = field(compare=False)
    length: int | None = field(compare=False)
    user: str = field(compare=False)
    client: str = field(compare=False)
    metadata: str = field(default="", compare=False)
    concat: str = field(default="", compare=False)
    doubted: int | None = field(default=None, compare=False)
    is_left: bool = field(default=False, compare=False)

    @property
    def is_partial(self) -> bool:
        """Whether it is a part of another upload, and becomes no job itself."""
        return self.concat == PARTIAL

    @property
    def parts(self) -> list[str]:
        """The names of the uploads that it is made of; none where the client sends its bytes."""
        return part_names(self.concat)


@dataclass(frozen=True, slots=True)
class Standing:
    """How an upload stands: ``offset`` bytes have arrived, and it is removed at ``expiry``, unless something comes
    before. Each is None where what arrived is gone, since a job has used it, or another upload."""

    offset: int | None
    is_whole: bool
    expiry: float | None


class Uploads(Protocol):
    """The uploads of a spool. Each method blocks, and may be called by several threads at once."""

    def create(self, length: int | None, user: str, client: str, metadata: str = "", concat: str = "") -> Upload:
        """Create an upload, durably. Raises Refusal and NoRoom."""

    def find(self, name: str) -> Upload | None:
        """The upload of this name; it may be a job by now."""

    def standing(self, upload: Upload) -> Standing:
        """How it stands now."""

    def expire(self, upload: Upload, store: JobStore) -> bool:
        """Remove what is left of an upload, unless it is written, or its job needs it; return whether it is gone."""

    def job_of(self, upload: Upload, store: JobStore) -> Job | None:
        """The job of an upload, if there is one."""

    def opening(self, upload: Upload) -> Callable[[], Incoming | None]:
        """What tries to open the upload, to add to it: None where its bytes are gone. It raises Locked as long as
        another request, here or at another server, has it, and may be called until that has ended."""

    def declare(self, upload: Upload, file: Incoming, length: int) -> Upload:
        """The open upload, whose length is known by now: durably so. Raises NoRoom."""

    def doubt(self, upload: Upload, file: Incoming) -> None:
        """What is written to the open upload from here on does not count until it is `trust`-ed: durably so."""

    def trust(self, upload: Upload, file: Incoming) -> None:
        """All that was written counts, which is durable: nothing of it is in doubt."""

    def settle(self, upload: Upload, file: Incoming) -> Upload:
        """The upload when nothing of it is in doubt. What is was left by a request that was killed, and is removed."""

    def keep(self, upload: Upload) -> None:
        """The upload is open: room is kept for it while something comes."""

    def close(self, upload: Upload) -> None:
        """The upload is whole or removed: it needs no room any more."""

    def remove(self, upload: Upload) -> None:
        """Remove an upload."""

    def keep_parts(self, final: Upload) -> None:
        """The parts of a final upload are not to expire while they are joined."""

    async def join(self, final: Upload, file: Incoming, disk: Threads) -> None:
        """Add the parts of a final upload to it, durably; ``disk`` does what blocks. It resumes where an earlier call
        was cut. Raises Refusal where a part is gone, and NoRoom."""

    def remove_parts(self, final: Upload) -> None:
        """The final upload is a job: remove its parts, but not what answers who asks again how much arrived of them."""


def part_names(concat: str) -> list[str]:
    """The names of the parts that a client wants to be joined; an empty one for what is no upload's URL."""
    if not concat.startswith(FINAL):
        return []
    found = [re.search(f"(?:^|/)({NAME})/?$", url) for url in concat.removeprefix(FINAL).split()]
    return [match[1] if match else "" for match in found]


def final_name(parts: Sequence[str]) -> str:
    """The name of the upload that is made of these parts. Like theirs, nobody else can guess it."""
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()[:32]


def require_place(of_client: int, of_all: int) -> None:
    """Raise Refusal where so many uploads are open that another one is too many, or too many of this client's."""
    if of_client >= MAX_UPLOADS // 2 or of_all >= MAX_UPLOADS:
        opened = counted(of_all, "upload is", "uploads are")
        raise Refusal(503, f"{opened} open: end one, or try again later", {"Retry-After": str(BUSY_SECONDS)})
