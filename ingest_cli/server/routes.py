"""The routes: Pacifica Ingest's requests, and a few of our own."""

import json
import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from ..errors import IngestError, JobNotFound, MetadataError, SourceRefused
from ..jobs.attendance import patience_of
from ..jobs.fields import history_fields, job_fields, place_fields
from ..jobs.history import named
from ..jobs.imported import ImportedJob
from ..jobs.job import Job, JobKind
from ..jobs.places import Place
from ..jobs.sightings import Sightings
from ..jobs.spool import NoRoom
from ..jobs.store import JobStore
from ..pipeline.sources import NO_FOLDERS
from ..settings import Settings
from ..text import listed, quoted, shortened
from . import metrics
from .access import Access
from .admission import Reception, Receptions
from .arrivals import Arrivals
from .async_store import AsyncStore
from .folder_spool import FolderSpool
from .health import Health
from .incoming import Incoming
from .job_query import MAX_JOB_ID, JobQuery, whole_number
from .move_check import require_movable
from .names import name_in
from .openapi import DESCRIPTION
from .proxies import external_path
from .receiving import Limits, receive, spooled
from .spools import Spool
from .threads import Threads

# What clients call a bundle. Its own bytes say what it is; a form would have to be unpacked first.
BUNDLE_TYPES = (
    *("application/octet-stream", "binary/octet-stream", "application/tar", "application/x-tar", "application/x-gtar"),
    *("application/gzip", "application/x-gzip", "application/x-compressed-tar", "application/tar+gzip"),
    *("application/x-gtar-compressed", "application/x-tgz", "application/x-gtar+gzip"),
    *("application/bzip2", "application/x-bzip2", "application/x-bzip", "application/x-bzip-compressed-tar"),
    *("application/x-bzip2-compressed-tar", "application/xz", "application/x-xz", "application/x-xz-compressed-tar"),
    *("application/zstd", "application/x-zstd", "application/x-zstd-compressed-tar", "application/zlib"),
)
# A bundle may be packed, and so it does not matter whether its sender calls that its type or its coding.
BUNDLE_CODINGS = ("identity", "gzip", "x-gzip", "deflate", "bzip2", "x-bzip2", "xz", "x-xz", "zstd", "x-zstd")
LONGEST_EXCEPTION = 4000


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerRules:
    """What the server accepts, how it logs, and how many seconds uploads under way may go on after a signal."""

    limits: Limits
    max_waiting: int
    log_json: bool
    grace: int = 1


class Routes:
    """The requests that a person or an uploader makes, but for those of tus. The threads of ``disk`` write to the
    spool."""

    def __init__(
        self,
        store: AsyncStore,
        settings: Settings,
        spool: Spool,
        receptions: Receptions,
        limits: Limits,
        disk: Threads,
        access: Access,
        arrivals: Arrivals,
    ) -> None:
        self._store, self._settings, self._spool = store, settings, spool
        self._receptions, self._limits, self._disk, self._access = receptions, limits, disk, access
        self._arrivals, self._documents = arrivals, FolderSpool(settings.spool)
        self._checks, self._health = Threads(1, "documents"), Health(store, spool, limits.reserve)
        self._sightings = Sightings(patience_of(settings.timings))

    @property
    def routes(self) -> list[Route]:
        """The routes."""
        return [
            Route("/", self.welcome),
            Route("/upload", self.upload, methods=["POST"]),
            Route("/ingest", self.upload, methods=["POST"]),
            Route("/move", self.move, methods=["POST"]),
            Route("/get_state", self.get_state),
            Route("/jobs", self.list_jobs),
            Route("/jobs/{job_id}", self.show_job),
            Route("/healthz", self.health),
            Route("/metrics", self.show_metrics),
            Route("/openapi.json", self.describe),
        ]

    async def welcome(self, request: Request) -> Response:
        """Answer that the server is running."""
        return JSONResponse({"message": "Pacifica Ingest Up and Running"}, headers={"Vary": "Accept"})

    async def upload(self, request: Request) -> Response:
        """Receive a bundle, and queue its job."""
        kind = _media_type(request)
        if kind and kind not in BUNDLE_TYPES:
            raise HTTPException(415, f"a bundle must be sent as {BUNDLE_TYPES[0]}, not {quoted(kind)}")
        _require_coding(request, BUNDLE_CODINGS)
        return await self._receive(request, JobKind.BUNDLE, ".tar", self._limits)

    async def move(self, request: Request) -> Response:
        """Receive a document of files to move, and queue its job."""
        if _media_type(request) != "application/json":
            raise HTTPException(415, "a document must be sent as application/json")
        _require_coding(request, ("identity",))
        if "content-length" not in request.headers:
            raise HTTPException(411, "a document must be sent with a Content-Length")
        if not self._settings.server.move_from:
            raise HTTPException(403, NO_FOLDERS)
        limits = Limits(self._settings.document_bytes, self._limits.reserve)
        return await self._receive(request, JobKind.MOVE, ".json", limits)

    async def _receive(self, request: Request, kind: JobKind, suffix: str, limits: Limits) -> Response:
        # What is to be moved lies on disks of this machine: its job does too.
        spool = self._documents if kind is JobKind.MOVE else self._spool
        opening = partial(spool.fresh, suffix, limits.reserve)
        with self._receptions.admit(request) as reception:
            # Before the body: where the id service is down, no one has to send it in vain.
            async with self._store.place_with_id() as job_id, spooled(self._disk, opening) as file:
                await self._receive_whole(request, file, limits, reception)
                if kind is JobKind.MOVE:
                    await self._require_movable(file)
                job = await self._submit(job_id, kind, file, request)
        return JSONResponse(_state_of(job))

    async def _receive_whole(self, request: Request, file: Incoming, limits: Limits, reception: Reception) -> None:
        try:
            await receive(request, file, limits, reception, self._disk, self._arrivals)
            await self._arrivals.finish(file.source)
        finally:
            await self._arrivals.give_up(file.source)

    async def _submit(self, job_id: int, kind: JobKind, file: Incoming, request: Request) -> Job:
        # Before: a request that is cancelled meanwhile must not take the file of a job that was entered.
        file.keep()
        try:
            return await self._store.submit(job_id, kind, file, request.state.user, name_in(request))
        except IngestError:
            file.drop()
            raise

    async def get_state(self, request: Request) -> Response:
        """The state of a job, as Pacifica's clients ask for it."""
        given = request.query_params.get("job_id")
        if given is None:
            raise HTTPException(400, "the query needs a job_id")
        imported = await self._store.look(partial(_imported, given=given))
        return JSONResponse(_state_of(await self._job(given)) if imported is None else imported.as_state())

    async def list_jobs(self, request: Request) -> Response:
        """Those of the jobs that are asked for, newest first, a page at a time."""
        query = JobQuery.of(request.query_params)
        page = await self._store.list(query.page)
        jobs = [_listed(job, page.places) for job in page.jobs]
        onward = None if page.next is None else f"{external_path(request, '/jobs')}?{page.next}"
        headers = {} if onward is None else {"Link": f'<{onward}>; rel="next"'}
        return JSONResponse({"jobs": jobs, "next": onward} if query.envelope else jobs, headers=headers)

    async def show_job(self, request: Request) -> Response:
        """A job, with how long each stage took, and what was told of it."""
        job = await self._job(request.path_params["job_id"])
        stages = await self._store.look(lambda store: store.stages(job.job_id))
        told = await self._store.look(lambda store: store.history(job.job_id))
        places = await self._store.look(lambda store: store.places([job.job_id]))
        downloadable = job.is_done and await self._access.has(request, job.job_id)
        details = {"stages": stages, "log": history_fields(named(job, told)), "downloadable": downloadable}
        return JSONResponse({**_listed(job, places), **details}, headers={"Vary": "Accept"})

    async def health(self, request: Request) -> Response:
        """Check that the job store answers and that the spool can be written."""
        try:
            await self._health.check()
        except NoRoom as error:
            raise HTTPException(503, str(error)) from error
        return JSONResponse({"status": "ok"})

    async def show_metrics(self, request: Request) -> Response:
        """Metrics of the job store, for Prometheus."""
        text = await self._store.look(partial(metrics.exposition, sightings=self._sightings))
        return PlainTextResponse(text, headers={"Content-Type": metrics.CONTENT_TYPE})

    async def describe(self, request: Request) -> Response:
        """The description of these requests in OpenAPI, for programs."""
        return Response(_description(external_path(request, "")), media_type="application/json")

    async def _job(self, given: str) -> Job:
        job_id = whole_number(given, "job_id")
        if not 0 < job_id <= MAX_JOB_ID:
            raise HTTPException(404, f"there is no job {quoted(given)}")
        try:
            return await self._store.look(lambda store: store.get(job_id))
        except JobNotFound:
            if await self._store.look(partial(_imported, given=given)) is not None:
                raise HTTPException(404, f"job {job_id} was imported: only its state is known here") from None
            raise HTTPException(404, f"there is no job {job_id}") from None

    async def _require_movable(self, document: Incoming) -> None:
        """Raise where it is no document, or where one of its files may not be moved by this server."""
        try:
            await self._checks.do(require_movable, Path(document.source), self._settings)
        except MetadataError as error:
            raise HTTPException(400, str(error)) from error
        except SourceRefused as error:
            raise HTTPException(403, str(error)) from error


def _description(root_path: str) -> bytes:
    servers = {"servers": [{"url": root_path}]} if root_path else {}
    return json.dumps({**DESCRIPTION, **servers}, separators=(",", ":")).encode()


def _imported(store: JobStore, given: str) -> ImportedJob | None:
    """The job of the earlier service that is asked for, if it is one; it is answered with as that one did."""
    return store.imported(int(given)) if re.fullmatch("[0-9]{1,18}", given) else None


def _state_of(job: Job) -> dict[str, Any]:
    """The job's state for clients: what went wrong at some length, and no traceback."""
    state = job.as_state()
    story = job.with_name(state["exception"])  # where the spool is concerns no client
    if story.startswith("Traceback"):  # as an earlier version noted an error that it did not expect
        story = story.strip().rpartition("\n")[2]
    return {**state, "exception": shortened(story, LONGEST_EXCEPTION)}


def _listed(job: Job, places: dict[int, Place]) -> dict[str, Any]:
    return {**job_fields(job), **_state_of(job), **place_fields(job, places.get(job.job_id))}


def _media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _require_coding(request: Request, known: tuple[str, ...]) -> None:
    """Raise HTTPException where the body has more than one Content-Encoding, or one that is not ``known``."""
    coding = ", ".join(request.headers.getlist("content-encoding")).strip().lower()
    if coding and coding not in known:
        message = f"the Content-Encoding {quoted(coding)} is not understood here, only {listed(known, len(known))}"
        raise HTTPException(415, message, {"Accept-Encoding": ", ".join(known)})
