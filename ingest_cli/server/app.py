"""The application: its routes, authentication, log, and error responses."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, HTTPConnection, Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from ..errors import IngestError, JobNotFound
from ..jobs.spool import SpoolKind, orphans
from ..jobs.store import JobStore
from ..settings import Settings
from ..text import one_line
from .async_store import AsyncStore, QueueFull
from .authentication import Authenticator, Refusal
from .log import AccessLog
from .protocol import error_object
from .routes import Routes, ServerRules
from .tus import Tus

RETRY_SECONDS = 60


def application(settings: Settings, authenticator: Authenticator, rules: ServerRules) -> Starlette:
    """The application for a site."""
    store = AsyncStore(settings, max_waiting=rules.max_waiting)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        await store.call(lambda jobs: _remove_orphans(settings.spool, jobs))
        yield
        await store.close()

    return Starlette(
        routes=[*Routes(store, settings.spool, rules).routes, *Tus(store, settings.spool, rules.limits).routes],
        middleware=[
            Middleware(AccessLog, as_json=rules.log_json),
            Middleware(_Authentication, authenticator=authenticator),
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


def _remove_orphans(spool: Path, store: JobStore) -> None:
    """Remove what a killed server has left; the rest of the spool is for ``ingest prune``."""
    for path in orphans(spool, store, [SpoolKind.RECEIVED, SpoolKind.RESUMABLE]):
        path.unlink(missing_ok=True)


class _Authentication:
    """Passes on the requests that the authenticator knows the user of, with ``request.state.user`` set."""

    def __init__(self, app: ASGIApp, *, authenticator: Authenticator) -> None:
        self._app, self._authenticator = app, authenticator

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            try:
                scope.setdefault("state", {})["user"] = self._authenticator.authenticate(HTTPConnection(scope))
            except Refusal as refusal:
                await _error(refusal.status, refusal.message, refusal.headers)(scope, receive, send)
                return
        await self._app(scope, receive, send)


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
    """Something that the server needs is unavailable: the id service, the job store, or the spool's disk."""
    import sys

    line = one_line(f"ingest: {request.method} {request.url.path}: {error}")
    print(line, file=sys.stderr, flush=True)
    return _error(503, "the server cannot do this now: see its log", {"Retry-After": str(RETRY_SECONDS)})


async def _gone(request: Request, error: Exception) -> Response:
    return _error(400, "the connection was closed before the whole body arrived")


async def _broken(request: Request, error: Exception) -> Response:
    """A bug. Starlette itself writes the traceback to standard error."""
    return _error(500, "the server failed: see its log")
