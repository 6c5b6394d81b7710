"""Whether the server can accept jobs."""

import asyncio

from ..errors import ResourceUnavailable
from ..jobs.store import JobStore
from .async_store import AsyncStore
from .spools import Spool

# Storage that does not answer is given up earlier, and a disk may be waited for without end.
LONGEST_SECONDS = 60.0


class Health:
    """Checks that the job store answers and that the spool can be written, where ``reserve`` bytes stay free.

    One check is under way at most, for all who ask meanwhile: those who have given up leave none behind that somebody
    else has to wait for. It waits for nothing that requests do.
    """

    def __init__(self, store: AsyncStore, spool: Spool, reserve: int) -> None:
        self._store, self._spool, self._reserve = store, spool, reserve
        self._check: asyncio.Future[None] | None = None

    async def check(self) -> None:
        """Raise IngestError where no jobs can be accepted."""
        if self._check is None or self._check.done():
            self._check = asyncio.ensure_future(self._store.check(self._try))
            self._check.add_done_callback(_note)
        try:
            async with asyncio.timeout(LONGEST_SECONDS):
                await asyncio.shield(self._check)
        except TimeoutError:
            raise ResourceUnavailable(f"job store and spool were not checked within {LONGEST_SECONDS:.0f} s") from None

    def _try(self, jobs: JobStore) -> None:
        jobs.count_unfinished()
        self._spool.try_out(self._reserve)


def _note(check: "asyncio.Future[None]") -> None:
    """Nobody may wait any more for what it has found."""
    if not check.cancelled():
        check.exception()
