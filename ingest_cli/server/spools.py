"""The spool of a site, wherever it is."""

from typing import Protocol

from ..jobs.spool import SpoolKind
from ..jobs.store import JobStore
from ..settings import Settings
from ..spool.opening import open_shared
from .admission import Room
from .carts import Carts
from .folder_spool import FolderSpool
from .incoming import Incoming
from .uploads import Uploads


class Spool(Protocol):
    """Where bodies lie until their jobs are done. Each method blocks."""

    def fresh(self, suffix: str, reserve: int = 0) -> Incoming:
        """What comes in one request, under a name that ends in ``suffix``; ``reserve`` bytes stay free, where that is
        known."""

    def try_out(self, reserve: int) -> None:
        """Write something and remove it: raise what a request would meet now that writes, but wait for none of them.

        ``reserve`` is as for `fresh`.
        """

    def uploads(self, room: Room, reserve: int) -> Uploads:
        """What comes in any number of requests."""

    def carts(self, reserve: int) -> Carts:
        """What is kept of carts."""

    def key(self, name: str) -> bytes:
        """The secret key of this name, which is the same for all servers that share the spool of a site."""

    def free(self) -> int:
        """How many bytes there is room for."""

    def sweep(self, store: JobStore, *kinds: SpoolKind) -> None:
        """Remove what a killed server has left, or a client; the rest of the spool is for ``ingest prune``."""

    def close(self) -> None:
        """Close what is open for all of them."""


def spool_of(settings: Settings) -> Spool:
    """The site's spool: its folder, or what the servers of several hosts share."""
    shared = open_shared(settings)
    if shared is None:
        return FolderSpool(settings.spool)
    from .shared_uploads import SharedReceptions

    return SharedReceptions(shared)
