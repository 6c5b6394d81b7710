"""What was stored of a job, over HTTP: as a bundle, and file by file.

The files are below the job, and not at ``/files``, which belongs to tus: its uploads are there, and ``HEAD`` asks how
much of one has arrived.
"""

import re
import time
from base64 import b64encode
from collections.abc import Callable
from functools import partial
from typing import Any
from urllib.parse import quote

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ..bundle.reader import METADATA_NAME
from ..errors import JobNotRecorded
from ..retrieval.layout import Pieces
from ..retrieval.stored import Stored, mtime_of
from ..services.base import StoredFile
from ..text import quoted
from .access import Access
from .holdings import Holdings
from .ranges import Version
from .streams import SAFE, Download, Streams
from .threads import Threads

TAR = "application/x-tar"
ANY_TYPE = "application/octet-stream"
MEDIA_TYPE = re.compile(r"[a-z]+/[A-Za-z0-9!#$&^_.+-]{1,127}")
# What RFC 9530 calls them; there are no names for others.
DIGESTS = {"md5": "md5", "sha1": "sha", "sha256": "sha-256", "sha512": "sha-512"}
ID = re.compile(r"[0-9]{1,18}", re.ASCII)


class Downloads:
    """The requests for what is stored of a job. Those of a duplicate get what is stored of the job that it repeats."""

    def __init__(self, access: Access, holdings: Holdings, streams: Streams, looking: Threads) -> None:
        self._access, self._holdings, self._streams, self._looking = access, holdings, streams, looking

    @property
    def routes(self) -> list[Route]:
        """The routes."""
        return [
            Route("/jobs/{job_id}/bundle", self.bundle),
            Route("/jobs/{job_id}/files", self.list_files),
            _of_any_name(Route("/jobs/{job_id}/files/{path:path}", self.file)),
            Route("/status/transactions/by_id/{job_id}", self.transaction),
        ]

    async def bundle(self, request: Request) -> Response:
        """The bundle, as ``ingest restore`` makes it."""
        job_id, stored = await self._stored(request)
        layout = stored.layout
        version = Version(layout.size, f'"{layout.digest}"')
        headers = {"Content-Type": TAR, "Content-Disposition": attachment(f"job-{job_id}.tar")}
        read = partial(layout.read, self._holdings.read)
        return self._streams.answer(request, Download(version, headers, read, len(stored.named)))

    async def list_files(self, request: Request) -> Response:
        """The files, as a cart takes them."""
        _, stored = await self._stored(request)
        return JSONResponse(await self._looking.do(_listed, stored), headers=SAFE)

    async def file(self, request: Request) -> Response:
        """A file, by its name in the bundle, or by its id; or the document."""
        job_id, stored = await self._stored(request)
        path = request.path_params["path"]
        if path == METADATA_NAME:
            return self._streams.answer(request, _document(stored))
        # A name in a bundle begins with a folder, and is no number.
        file = stored.by_id.get(int(path)) if ID.fullmatch(path) else stored.by_name.get(path)
        if file is None:
            raise HTTPException(404, f"job {job_id} has no file {quoted(path)}")
        return self._streams.answer(request, _download(file, partial(self._holdings.read, file)))

    async def transaction(self, request: Request) -> Response:
        """What Pacifica's clients ask a policy service for before they fill a cart."""
        job_id, stored = await self._stored(request)
        return JSONResponse(await self._looking.do(_transaction, job_id, stored), headers=SAFE)

    async def _stored(self, request: Request) -> tuple[int, Stored]:
        given = request.path_params["job_id"]
        if not ID.fullmatch(given):
            raise HTTPException(404, f"there is no job {quoted(given)}")
        recorded = await self._access.find(request, int(given))
        try:
            return recorded, await self._looking.do(self._holdings.stored, recorded)
        except JobNotRecorded as error:
            raise HTTPException(404, str(error)) from error


def _of_any_name(route: Route) -> Route:
    """The route, whose last part may have line feeds in it, as the names of files may."""
    route.path_regex = re.compile(route.path_regex.pattern, re.DOTALL)
    return route


def _download(file: StoredFile, read: Callable[[int, int], Pieces]) -> Download:
    mtime = mtime_of(file)
    modified = mtime if 0 < mtime <= time.time() else None  # RFC 9110, 8.8.2.1
    version = Version(file.size, f'"{quote(f"{file.hashtype}-{file.hashsum}")}"', modified)
    kind = file.mimetype if MEDIA_TYPE.fullmatch(file.mimetype) else ANY_TYPE
    headers = {"Content-Type": kind, "Content-Disposition": attachment(file.name), **_digest_header(file)}
    return Download(version, headers, read)


def _document(stored: Stored) -> Download:
    def read(start: int, stop: int) -> Pieces:
        yield stored.document[start:stop]

    version = Version(len(stored.document), f'"{stored.layout.digest}-document"')
    headers = {"Content-Type": "application/json", "Content-Disposition": attachment(METADATA_NAME)}
    return Download(version, headers, read)


def attachment(name: str) -> str:
    """A Content-Disposition by which a browser saves what comes, under this name (RFC 6266)."""
    plain = re.sub(r"[^A-Za-z0-9 ._+=@()-]", "_", name)
    encoded = "" if plain == name else f"; filename*=UTF-8''{quote(name, safe='', errors='replace')}"
    return f'attachment; filename="{plain}"{encoded}'


def _digest_header(file: StoredFile) -> dict[str, str]:
    """The recorded hash as a Repr-Digest, where there is a name for its type."""
    name = DIGESTS.get(file.hashtype)
    try:
        return {} if name is None else {"Repr-Digest": f"{name}=:{b64encode(bytes.fromhex(file.hashsum)).decode()}:"}
    except ValueError:  # as another program's catalogue may have it
        return {}


def _listed(stored: Stored) -> list[dict[str, Any]]:
    return [
        {
            "id": file.file_id,
            "path": name,
            "size": file.size,
            "hashtype": file.hashtype,
            "hashsum": file.hashsum,
            "mimetype": file.mimetype,
            "ctime": file.ctime,
            "mtime": file.mtime,
        }
        for name, file in stored.named
    ]


def _transaction(job_id: int, stored: Stored) -> dict[str, Any]:
    """The transaction as Pacifica's metadata service tells of it, without the names of people and projects, which only
    that knows."""
    values = {record["destinationTable"].rpartition(".")[2]: record for record in stored.records}
    ids = {f"{name}_id": values[name]["value"] for name in ("submitter", "project", "instrument")}
    pairs = [record for record in stored.records if record["destinationTable"] == "TransactionKeyValue"]
    files = [(file, file.as_record()) for _, file in stored.named]
    return {
        "_id": job_id,
        "transaction_id": job_id,
        **ids,
        "key_values": {record["key"]: record["value"] for record in pairs},
        "file_ids": [file.file_id for file, _ in files],
        "files": {
            str(file.file_id): {**record, "subdir": file.subdir, "transaction": job_id} for file, record in files
        },
    }
