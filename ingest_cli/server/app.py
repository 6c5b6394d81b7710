"""The application: its routes, authentication, log, and error responses."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, HTTPConnection, Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..errors import IngestError
from ..jobs.spool import NoRoom, SpoolKind
from ..jobs.store import open_store
from ..settings import Settings
from ..text import one_line
from .access import Access
from .admission import Receptions, Room
from .arrivals import Arrivals
from .async_store import AsyncStore, QueueFull
from .authentication import Authenticator, Refusal
from .cart import CartRoutes
from .carts import Carts
from .downloads import Downloads
from .holdings import Holdings
from .log import AccessLog
from .pages.route import wants_page
from .pages.routes import PageRoutes, problem_page
from .protocol import error_object
from .proxies import Proxies
from .routes import Routes, ServerRules
from .spools import Spool, spool_of
from .streams import Streams
from .threads import Threads
from .tus import Tus
from .tus_protocol import TusHeaders

RETRY_SECONDS = 60
# How many pieces are written to the spool at once. Bodies come slower than a disk writes them.
DISK_THREADS = 16
SWEEP_SECONDS = 600.0
SWEPT = (SpoolKind.RECEIVED, SpoolKind.RESUMABLE)


def application(settings: Settings, authenticator: Authenticator, proxies: Proxies, rules: ServerRules) -> Starlette:
    """The application for a site."""
    limits, disk = rules.limits, Threads(DISK_THREADS, "spool")
    store = AsyncStore(settings, max_waiting=rules.max_waiting)
    spool = spool_of(settings)
    room = Room(spool.free, limits.reserve)
    receptions, arrivals = Receptions(room), Arrivals(settings, disk)
    uploads = spool.uploads(room, limits.reserve)
    access, carts = Access(settings, store), spool.carts(limits.reserve)
    holdings, looking = Holdings(settings, limits.reserve), Threads(1, "catalogue")
    outgoing = (access, holdings, Streams(), looking)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        sweeping = asyncio.create_task(_sweep(settings, spool, carts))
        yield
        sweeping.cancel()
        holdings.close()
        await store.close()
        spool.close()

    app = Starlette(
        routes=[
            *PageRoutes(store, settings, access, holdings, looking, spool.key("forms")).routes,
            *Routes(store, settings, spool, receptions, limits, disk, access, arrivals).routes,
            *Tus(store, uploads, receptions, limits, disk, arrivals).routes,
            *Downloads(*outgoing).routes,
            *CartRoutes(*outgoing, carts, receptions, limits, disk).routes,
        ],
        middleware=[
            Middleware(AccessLog, as_json=rules.log_json),
            Middleware(_Stopping),
            Middleware(_Authentication, authenticator=authenticator, proxies=proxies),
            Middleware(TusHeaders),
        ],
        exception_handlers={
            Refusal: _refused,
            NoRoom: _no_room,
            QueueFull: _busy,
            IngestError: _failed,
            HTTPException: _http_error,
            ClientDisconnect: _gone,
            Exception: _broken,
        },
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False  # to what may be another scheme than the client's; paths have none by now
    return app


async def _sweep(settings: Settings, spool: Spool, carts: Carts) -> None:
    """Remove what nobody receives any more, the resumable uploads that nobody resumes, and carts that are too old, now
    and then.

    No request waits for that, nor does the start: storage that does not answer takes its time for each upload.
    """

    def sweep() -> None:
        with open_store(settings) as jobs:
            spool.sweep(jobs, *SWEPT)
        carts.sweep()

    sweeper = Threads(1, "sweep")
    while True:
        with suppress(IngestError, OSError):
            await sweeper.do(sweep)
        await asyncio.sleep(SWEEP_SECONDS)


class _Stopping:
    """Answers what is still under way when the server stops: it is cancelled then."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_answered = False

        async def noted(message: Message) -> None:
            nonlocal is_answered
            is_answered = True
            await send(message)

        try:
            await self._app(scope, receive, noted)
        except asyncio.CancelledError:
            if not is_answered:
                message = "the server is stopping: try again later"
                await _error(503, message, {"Retry-After": str(RETRY_SECONDS), "Connection": "close"})(
                    scope, receive, send
                )


class _Authentication:
    """Passes on the requests that the authenticator knows the user of, with ``request.state.user`` and ``peer`` set."""

    def __init__(self, app: ASGIApp, *, authenticator: Authenticator, proxies: Proxies) -> None:
        self._app, self._authenticator, self._proxies = app, authenticator, proxies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            try:
                peer = self._proxies.resolve(scope)
                scope["state"]["peer"] = peer
                scope["state"]["user"] = self._authenticator.authenticate(HTTPConnection(scope), peer)
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
    if error.status_code == 404 and request.scope["type"] == "http" and wants_page(request.scope):
        return problem_page(request, 404, "there is nothing at this address")
    return _error(error.status_code, error.detail, dict(error.headers or {}))


async def _busy(request: Request, error: Exception) -> Response:
    return _error(503, str(error), {"Retry-After": str(RETRY_SECONDS)})


async def _no_room(request: Request, error: Exception) -> Response:
    return _error(507, str(error), {"Retry-After": str(RETRY_SECONDS)})


async def _failed(request: Request, error: Exception) -> Response:
    """Something that the server needs is unavailable: the id service, the job store, or the spool's disk."""
    line = one_line(f"ingest: {request.method} {request.scope['path']}: {error}")
    print(line, file=sys.stderr, flush=True)
    return _error(503, "the server cannot do this now: see its log", {"Retry-After": str(RETRY_SECONDS)})


async def _gone(request: Request, error: Exception) -> Response:
    return _error(400, "the connection was closed before the whole body arrived")


async def _broken(request: Request, error: Exception) -> Response:
    """A bug. Starlette itself writes the traceback to standard error."""
    return _error(500, "the server failed: see its log")
