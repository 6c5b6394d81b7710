"""Runs the server, with a pool of workers beside it, until it is told to stop."""

import asyncio
import logging
import resource
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType

import uvicorn

from ..jobs.store import open_store
from ..pipeline.attending import attending
from ..pipeline.observer import ObserveJob
from ..pipeline.worker_pool import WorkerPool
from ..settings import Settings
from .app import application
from .authentication import Authenticator
from .listening import BACKLOG, Listener
from .protocol import BoundedProtocol
from .proxies import Proxies
from .routes import ServerRules
from .systemd import notify_systemd

MAX_CONNECTIONS = 1024
# What else is open: files in the spool, databases, and the pipes of the workers.
OTHER_DESCRIPTORS = 512
KEEP_ALIVE_SECONDS = 30
# For connections that are accepted but not known yet.
ACCEPTED_SECONDS = 0.05


def serve(
    settings: Settings,
    rules: ServerRules,
    authenticator: Authenticator,
    listeners: list[Listener],
    *,
    workers: int,
    observe: ObserveJob,
    tell: Callable[[str], None],
    ready: Callable[[str], None],
) -> None:
    """Serve at the ``listeners``, with ``workers`` processes that run the jobs.

    ``tell`` is told what a person should know of jobs and events, and ``ready`` each URL as soon as connections wait
    there to be accepted. Raises StoreError where the job store cannot be used, and SettingsError where the root path
    cannot.
    """
    logging.getLogger("uvicorn").addHandler(logging.StreamHandler())
    open_store(settings).__exit__(None, None, None)
    server = _server(settings, rules, authenticator)
    for listener in listeners:
        ready(listener.url)
    with attending(settings, "server"), WorkerPool(settings, workers, observe, tell) as pool:
        server.on_signal = pool.stop
        asyncio.run(server.serve(sockets=[listener.listening for listener in listeners]))


def _server(settings: Settings, rules: ServerRules, authenticator: Authenticator) -> "_Server":
    config = uvicorn.Config(
        partial(application, settings, authenticator, Proxies.of(settings), rules),
        factory=True,
        http=BoundedProtocol,
        ws="none",
        lifespan="on",
        log_config=None,
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=BACKLOG,
        limit_concurrency=_most_connections(),
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=rules.grace,
    )
    return _Server(config)


def _most_connections() -> int:
    """How many connections can be open at once, where as many files may be as the system lets this process have."""
    wanted = MAX_CONNECTIONS + OTHER_DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return (
        MAX_CONNECTIONS if soft == resource.RLIM_INFINITY else max(16, min(MAX_CONNECTIONS, soft - OTHER_DESCRIPTORS))
    )


class _Server(uvicorn.Server):
    """Has the workers end at the same time, on a signal that ends it.

    Lets a SIGINT that was ignored when the process began stay ignored, as `graceful_shutdown` does.
    """

    on_signal: Callable[[], None] = staticmethod(lambda: None)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal came."""
        self.on_signal()
        super().handle_exit(sig, frame)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        notify_systemd("READY=1")

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept nothing more, which another server may do at the same sockets, and end what was accepted."""
        notify_systemd("STOPPING=1")
        for listening in sockets or ():
            asyncio.get_running_loop().remove_reader(listening)
        await asyncio.sleep(ACCEPTED_SECONDS)
        asyncio.get_running_loop().call_later(self.config.timeout_graceful_shutdown or 0, self._cut)
        await super().shutdown(sockets)

    def _cut(self) -> None:
        for connection in self.server_state.connections:
            assert isinstance(connection, BoundedProtocol)
            connection.cut()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        with super().capture_signals():
            if ignored:
                signal.signal(signal.SIGINT, signal.SIG_IGN)
            yield
