"""Makes a job of a resumable upload that is whole: one, however many ask for it at once, at any number of servers."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from functools import partial

from ..jobs.job import Job, JobKind
from ..jobs.spool import Locked, NoRoom
from .arrivals import Arrivals
from .async_store import AsyncStore
from .authentication import Refusal
from .incoming import Incoming
from .names import name_of
from .threads import Threads
from .uploads import Upload, Uploads

# A client that resumes may be faster than the news that its earlier connection broke.
LOCKED_SECONDS = 10.0


class UploadJobs:
    """The jobs of ``uploads``, in ``store``."""

    def __init__(self, store: AsyncStore, uploads: Uploads, disk: Threads, arrivals: Arrivals) -> None:
        self._store, self._uploads, self._disk = store, uploads, disk
        self._arrivals = arrivals

    @asynccontextmanager
    async def locked(self, upload: Upload) -> AsyncIterator[Incoming | None]:
        """The upload's file, while no other request, here or at another server, has it; None where it is gone.

        Raises Refusal where another request has it for too long.
        """
        opening, deadline = self._uploads.opening(upload), time.monotonic() + LOCKED_SECONDS
        while True:
            try:
                file = await self._disk.do(opening)
                break
            except Locked as error:
                if time.monotonic() > deadline:
                    raise Refusal(423, str(error)) from error
            await asyncio.sleep(0.05)
        try:
            yield file
        except Locked as error:  # it was, and another server took this one for dead
            raise Refusal(423, str(error)) from error
        finally:
            if file is not None:
                await self._disk.do(file.__exit__)

    async def of(self, upload: Upload) -> Job | None:
        """The job of an upload, if there is one."""
        return await self._store.look(partial(self._uploads.job_of, upload))

    async def complete(self, upload: Upload, *, has_place: bool = False) -> Job:
        """The job of an upload that is whole, or that can be joined from its parts.

        The caller may have its place in the queue already. Raises QueueFull, NoRoom and Refusal.
        """
        async with self.locked(upload) as file:
            # Another request may have been quicker, and a worker have removed the file already.
            job = await self.of(upload) or await self._submit(upload, file, has_place=has_place)
        await self._disk.do(self._uploads.close, upload)
        await self._disk.do(self._uploads.remove_parts, upload)
        return job

    async def _submit(self, upload: Upload, file: Incoming | None, *, has_place: bool) -> Job:
        if file is None:
            raise no_such_upload()
        if upload.parts:
            await self._join(upload, file)
        elif not (await self._disk.do(self._uploads.standing, upload)).is_whole:
            # What was the rest of it when we looked has turned out to be another.
            raise Refusal(409, "the upload has not arrived as a whole")
        async with nullcontext() if has_place else self._store.place():
            job_id = await self._store.reserve_id()
            await self._arrivals.finish(upload.source)
            return await self._store.submit(job_id, JobKind.BUNDLE, file, upload.user, name_of(upload.metadata))

    async def _join(self, upload: Upload, file: Incoming) -> None:
        try:
            await self._uploads.join(upload, file, self._disk)
        except (Refusal, NoRoom):  # it would only take room itself
            await self._disk.do(self._uploads.remove, upload)
            raise


def no_such_upload() -> Refusal:
    """The answer where there is no upload of a name."""
    return Refusal(404, "there is no such upload")
