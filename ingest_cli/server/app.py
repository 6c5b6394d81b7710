"""The application: Pacifica Ingest's requests and answers, and a few of our own."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, HTTPConnection, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from ..bundle.reader import MAX_METADATA_BYTES
from ..errors import IngestError, JobNotFound
from ..jobs.job import Job, JobKind
from ..jobs.spool import SpoolFile, leftovers
from ..jobs.store import JobStore
from ..settings import Settings
from . import metrics, tus
from .async_store import Desk, QueueFull
from .authentication import Gate, Refusal
from .log import AccessLog
from .openapi import DESCRIPTION
from .page import PAGE, PAGE_HEADERS
from .protocol import error_object
from .receiving import Limits, receive
from .tus import Tus

MAX_JOB_ID = (1 << 63) - 1
MAX_LISTED = 500
RETRY_SECONDS = 60
# What clients say that do not know a bundle's own type; a form would have to be unpacked first.
BUNDLE_TYPES = ("application/octet-stream", "application/x-tar", "application/gzip", "application/x-gzip")


@dataclass(frozen=True, kw_only=True, slots=True)
class Rules:
    """What the server takes: how much, from where files may be moved (None: from anywhere), and how it logs."""

    limits: Limits
    max_waiting: int
    move_from: tuple[Path, ...] | None
    log_json: bool


def application(settings: Settings, gate: Gate, rules: Rules) -> Starlette:
    """The application for a site."""
    desk = Desk(settings, max_waiting=rules.max_waiting)
    counter = _Counter(desk, settings.spool, rules)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        await desk.ask(lambda store: _sweep(settings.spool, store))
        yield
        await desk.close()

    return Starlette(
        routes=[*counter.routes, *Tus(desk, settings.spool, rules.limits).routes],
        middleware=[
            Middleware(AccessLog, as_json=rules.log_json),
            Middleware(_Admission, gate=gate),
        ],
        exception_handlers={
            Refusal: _refused,
            QueueFull: _busy,
            JobNotFound: _not_found,
            IngestError: _failed,
            HTTPException: _http_error,
            ClientDisconnect: _gone,
            Exception: _broken,
        },
        lifespan=lifespan,
    )


def _sweep(spool: Path, store: JobStore) -> None:
    for path in [*leftovers(spool, store), *tus.leftovers(spool, store)]:
        path.unlink(missing_ok=True)


class _Counter:
    """The requests that a person or an uploader makes."""

    def __init__(self, desk: Desk, spool: Path, rules: Rules) -> None:
        self._desk, self._spool, self._rules = desk, spool, rules

    @property
    def routes(self) -> list[Route]:
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
        if "text/html" in request.headers.get("accept", ""):
            return Response(PAGE, media_type="text/html", headers=PAGE_HEADERS)
        return JSONResponse({"message": "Pacifica Ingest Up and Running"}, headers={"Vary": "Accept"})

    async def upload(self, request: Request) -> Response:
        kind = _media_type(request)
        if kind and kind not in BUNDLE_TYPES:
            raise HTTPException(415, f"a bundle comes as {BUNDLE_TYPES[0]}, not as {kind}")
        await self._desk.require_place()
        # Before the body: where the id service is down, no one has to send it in vain.
        job_id = await self._desk.take_id()
        with SpoolFile.fresh(self._spool, ".tar", self._rules.limits.reserve) as file:
            await receive(request, file, self._rules.limits)
            job = await self._desk.submit(job_id, JobKind.BUNDLE, file.path, request.state.user)
            file.keep()
        return JSONResponse(job.as_state())

    async def move(self, request: Request) -> Response:
        if _media_type(request) != "application/json":
            raise HTTPException(415, "a document comes as application/json")
        if "content-length" not in request.headers:
            raise HTTPException(411, "a document comes with its Content-Length")
        await self._desk.require_place()
        job_id = await self._desk.take_id()
        limits = Limits(MAX_METADATA_BYTES, self._rules.limits.reserve)
        with SpoolFile.fresh(self._spool, ".json", self._rules.limits.reserve) as file:
            await receive(request, file, limits)
            self._require_movable(file.path)
            job = await self._desk.submit(job_id, JobKind.MOVE, file.path, request.state.user)
            file.keep()
        return JSONResponse(job.as_state())

    async def get_state(self, request: Request) -> Response:
        given = request.query_params.get("job_id")
        if given is None:
            raise HTTPException(400, "the query must have a job_id")
        return JSONResponse((await self._job(given)).as_state())

    async def list_jobs(self, request: Request) -> Response:
        count = _whole_number(request.query_params.get("count", "50"), "count")
        jobs = await self._desk.ask(lambda store: store.newest(max(0, min(count, MAX_LISTED))))
        return JSONResponse([_listed(job) for job in jobs])

    async def show_job(self, request: Request) -> Response:
        job = await self._job(request.path_params["job_id"])
        stages = await self._desk.ask(lambda store: store.stages(job.job_id))
        return JSONResponse({**_listed(job), "stages": stages})

    async def health(self, request: Request) -> Response:
        await self._desk.ask(lambda store: store.count_unfinished())
        with SpoolFile.fresh(self._spool, ".health", self._rules.limits.reserve) as file:
            file.write(b"ingest")
        return JSONResponse({"status": "ok"})

    async def show_metrics(self, request: Request) -> Response:
        text = await self._desk.ask(metrics.exposition)
        return PlainTextResponse(text, headers={"Content-Type": metrics.CONTENT_TYPE})

    async def describe(self, request: Request) -> Response:
        return JSONResponse(DESCRIPTION)

    async def _job(self, given: str) -> Job:
        job_id = _whole_number(given, "job_id")
        if not 0 < job_id <= MAX_JOB_ID:
            raise HTTPException(404, f"there is no job {job_id}")
        return await self._desk.ask(lambda store: store.get(job_id))

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
                raise HTTPException(403, "files are moved from the folders only that this server was told")

    def _may_move(self, source: str) -> bool:
        # The folders on the way may be links.
        try:
            folder = Path(source).parent.resolve()
        except (OSError, ValueError):
            return False
        return any(folder.is_relative_to(allowed) for allowed in self._rules.move_from or ())


class _Admission:
    """Lets requests through that the gate admits, with ``request.state.user`` set."""

    def __init__(self, app: ASGIApp, *, gate: Gate) -> None:
        self._app, self._gate = app, gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            try:
                scope.setdefault("state", {})["user"] = self._gate.admit(HTTPConnection(scope))
            except Refusal as refusal:
                await _error(refusal.status, refusal.message, refusal.headers)(scope, receive, send)
                return
        await self._app(scope, receive, send)


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


def _error(status: int, message: str, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse(error_object(status, message), status_code=status, headers=headers)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return _error(error.status, error.message, error.headers)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _error(error.status_code, error.detail, dict(error.headers or {}))


async def _busy(request: Request, error: Exception) -> Response:
    return _error(503, str(error), {"Retry-After": str(RETRY_SECONDS)})


async def _not_found(request: Request, error: Exception) -> Response:
    return _error(404, f"there is no job {request.query_params.get('job_id', request.path_params.get('job_id'))}")


async def _failed(request: Request, error: Exception) -> Response:
    """Something that the server needs does not work now: the id service, the job store, the spool's disk."""
    import sys

    print(f"ingest: {request.method} {request.url.path}: {error}", file=sys.stderr, flush=True)
    return _error(503, "the server cannot do this now; its log says why", {"Retry-After": str(RETRY_SECONDS)})


async def _gone(request: Request, error: Exception) -> Response:
    return _error(400, "the body ended too early")


async def _broken(request: Request, error: Exception) -> Response:
    """A fault of ours. Its traceback goes to standard error, by Starlette's own doing."""
    return _error(500, "the server has failed; its log says how")
