"""Resumable uploads by the protocol tus 1.0.0 (tus.io), with those of its extensions that clients use.

The spool keeps what has come of an upload, and who sends it. The last byte makes it a job, whose id comes in the header
``Ingest-Job-Id``. It may be asked for again after an answer that was lost.
"""

from collections.abc import Awaitable, Callable
from functools import partial

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ..text import counted
from .admission import Receptions, client_of
from .arrivals import Arrivals
from .async_store import AsyncStore
from .authentication import Refusal
from .incoming import Incoming
from .proxies import external_path
from .receiving import Limits, announced_length
from .threads import Threads
from .tus_body import add_body, require_fit
from .tus_protocol import (
    ALGORITHMS,
    EXTENSIONS,
    PIECE_TYPE,
    VERSION,
    concat_in,
    description_of,
    metadata_in,
    new_length,
    number_in,
    progress_of,
    require_version,
)
from .upload_jobs import UploadJobs, no_such_upload
from .uploads import Upload, Uploads, final_name, part_names

Answer = Callable[[Request], Awaitable[Response]]


class Tus:
    """The resource ``/files``: uploads, which become jobs in ``store``. The threads of ``disk`` write to the spool."""

    def __init__(
        self,
        store: AsyncStore,
        uploads: Uploads,
        receptions: Receptions,
        limits: Limits,
        disk: Threads,
        arrivals: Arrivals,
    ) -> None:
        self._store, self._uploads, self._receptions = store, uploads, receptions
        self._limits, self._disk, self._arrivals = limits, disk, arrivals
        self._jobs = UploadJobs(store, uploads, disk, arrivals)

    @property
    def routes(self) -> list[Route]:
        """The routes."""
        return [
            _route("/files", OPTIONS=self.options, POST=self.create),
            _route("/files/{name}", OPTIONS=self.options, HEAD=self.offset, PATCH=self.append, DELETE=self.terminate),
        ]

    async def options(self, request: Request) -> Response:
        """Answer with the supported version and extensions of the protocol."""
        limit = {} if self._limits.max_bytes is None else {"Tus-Max-Size": str(self._limits.max_bytes)}
        known = {"Tus-Version": VERSION, "Tus-Extension": EXTENSIONS, "Tus-Checksum-Algorithm": ",".join(ALGORITHMS)}
        return Response(status_code=204, headers={**known, **limit})

    async def create(self, request: Request) -> Response:
        """Create an upload, whose first bytes may be the body, or join uploads that are its parts."""
        concat, metadata = concat_in(request), metadata_in(request)
        if part_names(concat):
            upload, progress = await self._join(request, concat, metadata)
        else:
            length = new_length(request)
            self._limits.require_allowed(length or 0)
            async with self._store.place():
                upload = await self._create(request, length, metadata, concat)
                progress = await self._begin(request, upload)
        return Response(status_code=201, headers={"Location": _location(request, upload), **progress})

    async def offset(self, request: Request) -> Response:
        """Answer with how much of an upload has arrived."""
        upload = await self._find(request, request.path_params["name"])
        progress = await self._progress(upload)
        return Response(headers={**description_of(upload), **progress})

    async def append(self, request: Request) -> Response:
        """Add the body to an upload, and make it a job when it is whole."""
        if not _brings_piece(request):
            raise Refusal(415, f"the content type must be {PIECE_TYPE}")
        upload, offset = await self._find(request, request.path_params["name"]), number_in(request, "Upload-Offset")
        if upload.parts:
            raise Refusal(403, "nothing can be added to an upload that is made of others")
        upload = await self._add(request, upload, offset)
        return Response(status_code=204, headers=await self._progress(upload))

    async def terminate(self, request: Request) -> Response:
        """Remove an upload that is not a job yet."""
        upload = await self._find(request, request.path_params["name"])
        async with self._jobs.locked(upload):
            if await self._jobs.of(upload) is not None:
                raise Refusal(403, "the upload is a job already, and cannot be removed")
            await self._disk.do(self._uploads.remove, upload)
        await self._arrivals.give_up(upload.source)
        return Response(status_code=204)

    async def _create(self, request: Request, length: int | None, metadata: str, concat: str) -> Upload:
        user, client = request.state.user, client_of(request)
        return await self._disk.do(self._uploads.create, length, user, client, metadata, concat)

    async def _begin(self, request: Request, upload: Upload) -> dict[str, str]:
        """Add what came with the creation of an upload. Without an answer its client would not know that it exists."""
        try:
            if _brings_piece(request):
                await self._add(request, upload, 0)
            return await self._progress(upload, has_place=True)
        except BaseException:
            if await self._jobs.of(upload) is None:
                await self._disk.do(self._uploads.remove, upload)
            raise

    async def _join(self, request: Request, concat: str, metadata: str) -> tuple[Upload, dict[str, str]]:
        """Join the parts, or resume where a request for the same was cut."""
        names = part_names(concat)
        upload = await self._known(request, final_name(names))
        if upload is None:
            length = await self._joint_length(request, names)
            self._limits.require_allowed(length)
            async with self._store.place():
                upload = await self._create(request, length, metadata, concat)
        with self._receptions.admit(request):
            await self._disk.do(self._uploads.keep_parts, upload)
            job = await self._jobs.complete(upload)
        return upload, _job_headers(upload, job.job_id)

    async def _joint_length(self, request: Request, names: list[str]) -> int:
        """How long the parts of these names are together, if all of them are there and whole. Raises Refusal."""
        length = 0
        for name in names:
            part = await self._find(request, name)
            offset = (await self._disk.do(self._uploads.standing, part)).offset
            if not part.is_partial:
                raise Refusal(400, f"the upload {name} was not created as a part")
            if offset is None:
                raise Refusal(410, f"the upload {name} has become a part of another one")
            if offset != part.length:
                raise Refusal(400, f"the upload {name} has not arrived as a whole")
            length += offset
        return length

    async def _add(self, request: Request, upload: Upload, offset: int) -> Upload:
        """Add the body, which begins at ``offset``. The client may have said now how long the upload is."""
        if (await self._disk.do(self._uploads.standing, upload)).is_whole:
            _require_offset(offset, upload.length)
            require_fit(announced_length(request) or 0, 0)
            return upload
        with self._receptions.admit(request):
            async with self._jobs.locked(upload) as file:
                upload = await self._find(request, upload.name)  # as others may have left it
                if file is not None:
                    upload = await self._disk.do(self._uploads.settle, upload, file)
                _require_offset(offset, upload.length if file is None else file.length)
                if file is not None:
                    upload = await self._declared(request, upload, file)
                    await self._disk.do(self._uploads.keep, upload)
                    await add_body(request, upload, file, self._uploads, self._limits, self._disk, self._arrivals)
        return upload

    async def _declared(self, request: Request, upload: Upload, file: Incoming) -> Upload:
        """The upload, with the length that the client says now if it did not before."""
        if "Upload-Length" not in request.headers:
            return upload
        length = number_in(request, "Upload-Length")
        self._limits.require_allowed(length)
        if length < file.length or upload.length not in (None, length):
            known = counted(file.length if upload.length is None else upload.length, "byte")
            raise Refusal(400, f"the upload cannot be {counted(length, 'byte')} long: it has {known}")
        return upload if upload.length == length else await self._disk.do(self._uploads.declare, upload, file, length)

    async def _progress(self, upload: Upload, *, has_place: bool = False) -> dict[str, str]:
        """The offset; and the job, which is entered here if the upload is whole and has none yet."""
        standing = await self._disk.do(self._uploads.standing, upload)
        if upload.is_partial or not standing.is_whole:
            return progress_of(upload, standing.offset, standing.expiry)
        job = await self._jobs.of(upload) or await self._jobs.complete(upload, has_place=has_place)
        return _job_headers(upload, job.job_id)

    async def _find(self, request: Request, name: str) -> Upload:
        """The upload of this name. Raises Refusal where there is none, where it has expired, or is another user's."""
        upload = await self._known(request, name)
        if upload is None:
            raise no_such_upload()
        return upload

    async def _known(self, request: Request, name: str) -> Upload | None:
        upload = await self._disk.do(self._uploads.find, name)
        if upload is None:
            return None
        if upload.user != request.state.user:
            raise Refusal(403, "the upload is another user's")
        if upload.is_left and await self._store.list(partial(self._uploads.expire, upload)):
            raise Refusal(410, "the upload has expired: nothing was added to it for too long")
        return upload


def _route(path: str, **answers: Answer) -> Route:
    async def answer(request: Request) -> Response:
        if request.method != "OPTIONS":
            require_version(request)
        return await answers[request.method](request)

    return Route(path, answer, methods=list(answers))


def _location(request: Request, upload: Upload) -> str:
    """Where clients find an upload."""
    return external_path(request, f"/files/{upload.name}")


def _job_headers(upload: Upload, job_id: int) -> dict[str, str]:
    return {"Upload-Offset": str(upload.length), "Ingest-Job-Id": str(job_id)}


def _brings_piece(request: Request) -> bool:
    return request.headers.get("Content-Type") == PIECE_TYPE


def _require_offset(wanted: int, offset: int | None) -> None:
    if wanted != offset:
        raise Refusal(409, f"the upload is at offset {offset}, not {wanted}")
