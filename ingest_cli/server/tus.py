"""Resumable uploads by the protocol tus 1.0.0 (tus.io), with its extensions creation and termination.

An upload is a file in the spool and a record of its length and user beside it. The last byte makes
it a job, whose id comes in the header ``Ingest-Job-Id``. It may be asked for again after an answer that was lost.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ..errors import SourceError
from ..jobs.job import Job, JobKind
from ..jobs.spool import Locked, SpoolFile
from ..jobs.store import JobStore
from ..text import counted
from .admission import Receptions, client_of
from .async_store import AsyncStore
from .authentication import Refusal
from .proxies import external_path
from .receiving import Limits, announced_length, pieces
from .threads import Threads
from .uploads import Upload, Uploads

VERSION = "1.0.0"
COMMON = {"Tus-Resumable": VERSION, "Cache-Control": "no-store"}
# A client that resumes may be faster than the news that its earlier connection broke.
LOCKED_SECONDS = 10.0


class Tus:
    """The resource ``/files``: uploads, which become jobs in ``store``. The threads of ``disk`` write to the spool."""

    def __init__(
        self, store: AsyncStore, uploads: Uploads, receptions: Receptions, limits: Limits, disk: Threads
    ) -> None:
        self._store, self._uploads, self._receptions = store, uploads, receptions
        self._limits, self._disk = limits, disk

    @property
    def routes(self) -> list[Route]:
        """The routes."""
        return [
            Route("/files", self.options, methods=["OPTIONS"]),
            Route("/files", self.create, methods=["POST"]),
            Route("/files/{name}", self.options, methods=["OPTIONS"]),
            Route("/files/{name}", self.offset, methods=["HEAD"]),
            Route("/files/{name}", self.append, methods=["PATCH"]),
            Route("/files/{name}", self.terminate, methods=["DELETE"]),
        ]

    async def options(self, request: Request) -> Response:
        """Answer with the supported version and extensions of the protocol."""
        limit = {} if self._limits.max_bytes is None else {"Tus-Max-Size": str(self._limits.max_bytes)}
        return Response(
            status_code=204,
            headers={**COMMON, "Tus-Version": VERSION, "Tus-Extension": "creation,termination", **limit},
        )

    async def create(self, request: Request) -> Response:
        """Create an upload of ``Upload-Length`` bytes."""
        _require_version(request)
        length = _number(request, "upload-length")
        self._limits.require_allowed(length)
        async with self._store.place():
            user = request.state.user
            name = await self._disk.do(self._uploads.create, length, user, client_of(request))
        return Response(status_code=201, headers={**COMMON, "Location": external_path(request, f"/files/{name}")})

    async def offset(self, request: Request) -> Response:
        """Answer with how much of an upload has arrived."""
        _require_version(request)
        upload = await self._find(request)
        progress = await self._progress(upload)
        return Response(headers={**COMMON, "Upload-Length": str(upload.length), **progress})

    async def append(self, request: Request) -> Response:
        """Add the body to an upload, and make it a job when it is whole. What arrives before a failure stays."""
        _require_version(request)
        if request.headers.get("content-type") != "application/offset+octet-stream":
            raise HTTPException(415, "the content type must be application/offset+octet-stream")
        upload, wanted = await self._find(request), _number(request, "upload-offset")
        offset = await self._disk.do(upload.offset)
        if offset is not None and offset < upload.length:
            with self._receptions.admit(request):
                async with self._locked(upload) as file:
                    _require_offset(wanted, upload.length if file is None else file.length)
                    if file is not None:
                        await self._disk.do(self._uploads.keep, upload)
                        await self._add(request, upload, file)
        else:
            _require_offset(wanted, upload.length)
        return Response(status_code=204, headers={**COMMON, **await self._progress(upload)})

    async def terminate(self, request: Request) -> Response:
        """Remove an upload that is not a job yet."""
        _require_version(request)
        upload = await self._find(request)
        async with self._locked(upload):
            if await self._job_of(upload) is not None:
                raise Refusal(403, "the upload is a job already, and cannot be removed", COMMON)
            await self._disk.do(self._uploads.remove, upload)
        return Response(status_code=204, headers=COMMON)

    @asynccontextmanager
    async def _locked(self, upload: Upload) -> AsyncIterator[SpoolFile | None]:
        """The upload's file, while no other request, here or at another server, has it; None where it is gone.

        Raises Refusal where another request has it for too long.
        """
        deadline = time.monotonic() + LOCKED_SECONDS
        while True:
            try:
                file = await self._disk.do(_opened, upload.path, self._limits.reserve)
                break
            except Locked as error:
                if time.monotonic() > deadline:
                    raise Refusal(423, str(error), COMMON) from error
            await asyncio.sleep(0.05)
        try:
            yield file
        finally:
            if file is not None:
                await self._disk.do(file.__exit__)

    async def _add(self, request: Request, upload: Upload, file: SpoolFile) -> None:
        begun = file.length
        if begun + (announced_length(request) or 0) > upload.length:
            raise Refusal(
                413,
                f"the body is too long: the upload needs only {counted(upload.length - begun, 'byte')} more",
                COMMON,
            )
        try:
            async for piece in pieces(request):
                await self._disk.do(_append, file, piece, upload.length)
        finally:
            await self._disk.do(file.sync)

    async def _progress(self, upload: Upload) -> dict[str, str]:
        """The offset; and the job, which is entered here if the upload is whole and has none yet."""
        offset = await self._disk.do(upload.offset)
        if offset is not None and offset < upload.length:
            return {"Upload-Offset": str(offset)}
        job = await self._job_of(upload) or await self._complete(upload)
        return {"Upload-Offset": str(upload.length), "Ingest-Job-Id": str(job.job_id)}

    async def _complete(self, upload: Upload) -> Job:
        """Make a job of a whole upload: one, however many ask for it at once. Raises QueueFull, and Refusal."""
        async with self._locked(upload) as file:
            # Another request may have been quicker, and a worker have removed the file already.
            job = await self._job_of(upload) or await self._submit(upload, file)
        await self._disk.do(self._uploads.close, upload)
        return job

    async def _submit(self, upload: Upload, file: SpoolFile | None) -> Job:
        if file is None:
            raise _no_such_upload()
        async with self._store.place():
            job_id = await self._store.reserve_id()
            return await self._store.submit(job_id, JobKind.BUNDLE, upload.path, upload.user)

    async def _job_of(self, upload: Upload) -> Job | None:
        def job_of(store: JobStore) -> Job | None:
            return store.of_source(upload.path)

        return await self._store.look(job_of)

    async def _find(self, request: Request) -> Upload:
        upload = await self._disk.do(self._uploads.find, request.path_params["name"])
        if upload is None:
            raise _no_such_upload()
        return upload


def _opened(path: Path, reserve: int) -> SpoolFile | None:
    try:
        return SpoolFile(path, reserve, new=False)
    except SourceError:
        if path.exists():
            raise
        return None


def _append(file: SpoolFile, piece: bytearray, length: int) -> None:
    """Add what of ``piece`` belongs to an upload of ``length`` bytes."""
    file.write(memoryview(piece)[: length - file.length])


def _no_such_upload() -> Refusal:
    return Refusal(404, "there is no such upload", COMMON)


def _require_version(request: Request) -> None:
    if request.headers.get("tus-resumable") != VERSION:
        raise Refusal(412, f"the header Tus-Resumable must be {VERSION}", {"Tus-Version": VERSION})


def _require_offset(wanted: int, offset: int) -> None:
    if wanted != offset:
        raise Refusal(409, f"the upload is at offset {offset}, not {wanted}", COMMON)


def _number(request: Request, header: str) -> int:
    value = request.headers.get(header, "")
    if not value.isascii() or not value.isdigit() or len(value) > 18:
        raise Refusal(400, f"the header {header} must be a number of bytes", COMMON)
    return int(value)
