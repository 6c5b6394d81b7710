"""Resumable uploads by the protocol tus 1.0.0 (tus.io), with its extensions creation and termination.

An upload is a file in the spool and a record of its length and user beside it. The last byte makes
it a job, whose id comes in the header ``Ingest-Job-Id``. It may be asked for again after an answer that was lost.
"""

import asyncio
import json
import re
import secrets
import time
from dataclasses import dataclass
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ..jobs.job import Job, JobKind
from ..jobs.spool import Locked, NoRoom, SpoolFile, SpoolKind, record_of
from ..text import counted
from .async_store import AsyncStore
from .authentication import Refusal
from .receiving import Limits, announced_length, pieces, require_allowed

VERSION = "1.0.0"
COMMON = {"Tus-Resumable": VERSION, "Cache-Control": "no-store"}
# A client that resumes may be faster than the news that its earlier connection broke.
LOCKED_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class _Upload:
    path: Path
    length: int
    user: str

    @property
    def offset(self) -> int:
        """How many bytes have arrived; all of them where a job has used and removed the file."""
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return self.length


class Tus:
    """The resource ``/files``: uploads in the folder ``spool``, which become jobs in ``store``."""

    def __init__(self, store: AsyncStore, spool: Path, limits: Limits) -> None:
        self._store, self._spool, self._limits = store, spool, limits

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
        require_allowed(length, self._limits)
        await self._store.require_capacity()
        name = secrets.token_hex(16)
        path = self._path(name)
        with SpoolFile(path, self._limits.reserve, new=True) as file:
            try:
                file.require_room(length)
            except NoRoom as error:
                raise Refusal(507, str(error)) from error
            record_of(path).write_text(json.dumps({"length": length, "user": request.state.user}), "utf-8")
            file.sync()
            file.keep()
        return Response(status_code=201, headers={**COMMON, "Location": f"{request.url.path.rstrip('/')}/{name}"})

    async def offset(self, request: Request) -> Response:
        """Answer with how much of an upload has arrived."""
        _require_version(request)
        upload = self._find(request)
        return Response(headers={**COMMON, "Upload-Length": str(upload.length), **await self._progress(upload)})

    async def append(self, request: Request) -> Response:
        """Add the body to an upload, and make it a job when it is whole. What arrives before a failure stays."""
        _require_version(request)
        if request.headers.get("content-type") != "application/offset+octet-stream":
            raise HTTPException(415, "the content type must be application/offset+octet-stream")
        upload, wanted = self._find(request), _number(request, "upload-offset")
        if upload.offset < upload.length:
            with await self._file(upload) as file:
                _require_offset(wanted, file.length)
                await self._add(request, upload, file)
        else:
            _require_offset(wanted, upload.offset)
        return Response(status_code=204, headers={**COMMON, **await self._progress(upload)})

    async def terminate(self, request: Request) -> Response:
        """Remove an upload that is not a job yet."""
        _require_version(request)
        upload = self._find(request)
        if await self._job_of(upload) is not None:
            raise Refusal(403, "the upload is a job already, and cannot be removed", COMMON)
        with await self._file(upload):
            _remove(upload.path)
        return Response(status_code=204, headers=COMMON)

    async def _file(self, upload: _Upload) -> SpoolFile:
        deadline = time.monotonic() + LOCKED_SECONDS
        while upload.path.exists():
            try:
                return SpoolFile(upload.path, self._limits.reserve, new=False)
            except Locked as error:
                if time.monotonic() > deadline:
                    raise Refusal(423, str(error), COMMON) from error
            await asyncio.sleep(0.05)
        raise Refusal(404, "there is no such upload", COMMON)

    async def _add(self, request: Request, upload: _Upload, file: SpoolFile) -> None:
        begun = file.length
        if begun + (announced_length(request) or 0) > upload.length:
            raise Refusal(
                413,
                f"the body is too long: the upload needs only {counted(upload.length - begun, 'byte')} more",
                COMMON,
            )
        try:
            async for piece in pieces(request):
                await asyncio.to_thread(file.write, piece[: upload.length - file.length])
        except NoRoom as error:
            raise Refusal(507, str(error), COMMON) from error
        finally:
            await asyncio.to_thread(file.sync)

    async def _progress(self, upload: _Upload) -> dict[str, str]:
        """The offset; and the job, which is entered here if the upload is whole and has none yet."""
        headers = {"Upload-Offset": str(upload.offset)}
        if upload.offset == upload.length:
            job = await self._job_of(upload)
            if job is None:
                job_id = await self._store.reserve_id()
                job = await self._store.submit(job_id, JobKind.BUNDLE, upload.path, upload.user)
            headers["Ingest-Job-Id"] = str(job.job_id)
        return headers

    async def _job_of(self, upload: _Upload) -> Job | None:
        return await self._store.call(lambda store: store.of_source(upload.path))

    def _find(self, request: Request) -> _Upload:
        name = request.path_params["name"]
        path = self._path(name)
        try:
            if not re.fullmatch("[0-9a-f]{32}", name):
                raise FileNotFoundError
            record = json.loads(record_of(path).read_text("utf-8"))
        except FileNotFoundError:
            raise Refusal(404, "there is no such upload", COMMON) from None
        return _Upload(path, int(record["length"]), str(record["user"]))

    def _path(self, name: str) -> Path:
        return SpoolKind.RESUMABLE.path(self._spool, f"{name}.tar")


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
    record_of(path).unlink(missing_ok=True)


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
