"""The archive of a Pacifica site: its archive interface."""

from collections.abc import Callable, Collection, Generator, Iterator

from ...settings import Confirm, Endpoint
from ..base import ArchivedFile
from ..slots import Slots
from .adapter import Adapter
from .holdings import Holdings
from .http import HttpService
from .writer import PacificaWriter

# Unless the stored sizes of all files are to be confirmed, those of one in so many smaller ones are.
CONFIRM_EVERY = 16


class PacificaArchive(Adapter):
    """The archive interface at ``endpoint``.

    ``transfers`` is 1 unless the site knows better: the released service, under its own server, mixes up files that
    come at the same time. ``slots`` count for other processes too. With ``remote_sources`` the paths of files to be
    moved are those of the archive's machine. ``confirm`` says of which files the stored size is asked for.
    """

    waits = True
    is_exclusive = True
    stages = False

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        transfers: int = 1,
        remote_sources: bool = False,
        confirm: Confirm = "sample",
        slots: Slots | None = None,
    ) -> None:
        self.transfers = transfers
        self._remote_sources, self._confirm = remote_sources, confirm
        self._service = HttpService("the archive", endpoint, connections=transfers, slots=slots)
        self._holdings = Holdings(self._service)

    def free_bytes(self) -> int | None:
        """None: the archive interface cannot be asked for its room."""
        return None

    def require_room(self, total_bytes: int) -> None:
        """Raise ServiceUnavailable where the archive does not answer, which is all that can be asked of it."""
        self._service.request("GET")

    def shares(self, descriptor: int) -> bool:
        """False: what is sent is stored anew."""
        return False

    def require_free(self, ids: range) -> None:
        """Nothing is asked: it would take two requests for each id, as long as storing a file takes."""

    def writer(
        self, ids: range, fence: int, *, resumed: bool, require: Callable[[], None] | None = None
    ) -> PacificaWriter:
        """What a run changes the archive by. The archive interface knows no fences; see `PacificaWriter`."""
        return PacificaWriter(
            self._service,
            self._holdings,
            ids,
            resumed=resumed,
            require=require or (lambda: None),
            remote_sources=self._remote_sources,
            confirm_every=1 if self._confirm == "all" else CONFIRM_EVERY,
        )

    def stat(self, file_id: int) -> int | None:
        """The stored size in bytes; None where the archive holds no such file."""
        return self._holdings.stat(file_id)

    def read(self, file_id: int, start: int = 0) -> Generator[bytes, None, None]:
        """The stored bytes from ``start`` on, in pieces; the archive interface sends those before it, too."""
        return self._holdings.read(file_id, start)

    def is_unchanged(self, file_id: int, observe: Callable[[int], None]) -> bool | None:
        """None: it would have to be read from the archive, as for its recorded hash."""
        return None

    def list_files(self) -> Iterator[ArchivedFile] | None:
        """None: the archive interface cannot be asked for all that it holds."""
        return None

    def still_holds(self, file: ArchivedFile) -> bool:
        """Whether the archive holds the file, which is asked for by its id."""
        return file.file_id is not None and self.stat(file.file_id) is not None

    def own_files(self, inodes: Collection[tuple[int, int]], ids: range) -> set[tuple[int, int]]:
        """None: the archive interface does not say which of this machine's files are its own."""
        return set()
