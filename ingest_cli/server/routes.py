"""The routes: Pacifica Ingest's requests, and a few of our own."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from ..bundle.reader import MAX_METADATA_BYTES
from ..jobs.job import Job, JobKind
from ..jobs.spool import SpoolFile, SpoolKind
from . import metrics
from .async_store import AsyncStore
from .openapi import DESCRIPTION
from .page import PAGE, PAGE_HEADERS
from .receiving import Limits, receive

MAX_JOB_ID = (1 << 63) - 1
MAX_LISTED = 500
# What clients say that do not know a bundle's own type; a form would have to be unpacked first.
BUNDLE_TYPES = ("application/octet-stream", "application/x-tar", "application/gzip", "application/x-gzip")


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerRules:
    """What the server accepts, from where files may be moved (None: from anywhere), and how it logs."""

    limits: Limits
    max_waiting: int
    move_from: tuple[Path, ...] | None
    log_json: bool


class Routes:
    """The requests that a person or an uploader makes, but for those of tus."""

    def __init__(self, store: AsyncStore, spool: Path, rules: ServerRules) -> None:
        self._store, self._spool, self._rules = store, spool, rules

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
        """Answer that the server is running; to a browser, with its page."""
        if "text/html" in request.headers.get("accept", ""):
            return Response(PAGE, media_type="text/html", headers=PAGE_HEADERS)
        return JSONResponse({"message": "Pacifica Ingest Up and Running"}, headers={"Vary": "Accept"})

    async def upload(self, request: Request) -> Response:
        """Receive a bundle, and queue its job."""
        kind = _media_type(request)
        if kind and kind not in BUNDLE_TYPES:
            raise HTTPException(415, f"a bundle must be sent as {BUNDLE_TYPES[0]}, not {kind}")
        await self._store.require_capacity()
        # Before the body: where the id service is down, no one has to send it in vain.
        job_id = await self._store.reserve_id()
        with SpoolFile.fresh(SpoolKind.RECEIVED, self._spool, ".tar", self._rules.limits.reserve) as file:
            await receive(request, file, self._rules.limits)
            job = await self._store.submit(job_id, JobKind.BUNDLE, file.path, request.state.user)
            file.keep()
        return JSONResponse(job.as_state())

    async def move(self, request: Request) -> Response:
        """Receive a document of files to move, and queue its job."""
        if _media_type(request) != "application/json":
            raise HTTPException(415, "a document must be sent as application/json")
        if "content-length" not in request.headers:
            raise HTTPException(411, "a document must be sent with a Content-Length")
        await self._store.require_capacity()
        job_id = await self._store.reserve_id()
        limits = Limits(MAX_METADATA_BYTES, self._rules.limits.reserve)
        with SpoolFile.fresh(SpoolKind.RECEIVED, self._spool, ".json", self._rules.limits.reserve) as file:
            await receive(request, file, limits)
            self._require_movable(file.path)
            job = await self._store.submit(job_id, JobKind.MOVE, file.path, request.state.user)
            file.keep()
        return JSONResponse(job.as_state())

    async def get_state(self, request: Request) -> Response:
        """The state of a job, as Pacifica's clients ask for it."""
        given = request.query_params.get("job_id")
        if given is None:
            raise HTTPException(400, "the query needs a job_id")
        return JSONResponse((await self._job(given)).as_state())

    async def list_jobs(self, request: Request) -> Response:
        """The jobs that were submitted last."""
        count = _whole_number(request.query_params.get("count", "50"), "count")
        jobs = await self._store.call(lambda store: store.newest(max(0, min(count, MAX_LISTED))))
        return JSONResponse([_listed(job) for job in jobs])

    async def show_job(self, request: Request) -> Response:
        """A job, with how long each stage took."""
        job = await self._job(request.path_params["job_id"])
        stages = await self._store.call(lambda store: store.stages(job.job_id))
        return JSONResponse({**_listed(job), "stages": stages})

    async def health(self, request: Request) -> Response:
        """Check that the job store answers and that the spool can be written."""
        await self._store.call(lambda store: store.count_unfinished())
        with SpoolFile.fresh(SpoolKind.RECEIVED, self._spool, ".health", self._rules.limits.reserve) as file:
            file.write(b"ingest")
        return JSONResponse({"status": "ok"})

    async def show_metrics(self, request: Request) -> Response:
        """Metrics of the job store, for Prometheus."""
        text = await self._store.call(metrics.exposition)
        return PlainTextResponse(text, headers={"Content-Type": metrics.CONTENT_TYPE})

    async def describe(self, request: Request) -> Response:
        """The description of these requests in OpenAPI, for programs."""
        return JSONResponse(DESCRIPTION)

    async def _job(self, given: str) -> Job:
        job_id = _whole_number(given, "job_id")
        if not 0 < job_id <= MAX_JOB_ID:
            raise HTTPException(404, f"there is no job {job_id}")
        return await self._store.call(lambda store: store.get(job_id))

    def _require_movable(self, path: Path) -> None:
        try:
            records = json.loads(path.read_bytes())
        except (ValueError, RecursionError):
            raise HTTPException(400, "the document is not JSON") from None
        if self._rules.move_from is None or not isinstance(records, list):
            return
        for record in records:
            source = record.get("source") if isinstance(record, dict) else None
            if isinstance(source, str) and not self._may_move(source):
                raise HTTPException(403, "this server does not move files from this folder")

    def _may_move(self, source: str) -> bool:
        # The folders on the way may be links.
        try:
            folder = Path(source).parent.resolve()
        except (OSError, ValueError):
            return False
        return any(folder.is_relative_to(allowed) for allowed in self._rules.move_from or ())


def _listed(job: Job) -> dict[str, Any]:
    return {
        **job.as_state(),
        "kind": job.kind,
        "user": job.user,
        "running": job.holder is not None,
        "attempts": job.attempts,
        "files": job.files,
        "stored": job.stored,
        "bytes": job.bytes,
        "duplicate_of": job.duplicate_of,
    }


def _media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _whole_number(text: str, name: str) -> int:
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit()):
        raise HTTPException(400, f"{name} must be a whole number")
    # Python refuses to read very long numbers; none of them is the id of a job.
    return int(text) if len(digits) < 20 else -1
