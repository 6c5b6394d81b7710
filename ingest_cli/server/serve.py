"""Runs the server, with a pool of workers beside it, until it is told to stop."""

import asyncio
import logging
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import uvicorn

from ..errors import SettingsError
from ..jobs.store import open_store
from ..pipeline.worker_pool import ObserveJob, WorkerPool
from ..settings import Settings
from .app import application
from .authentication import Authenticator
from .protocol import BoundedProtocol
from .routes import ServerRules

BACKLOG = 512
MAX_CONNECTIONS = 1024
KEEP_ALIVE_SECONDS = 30
# How long uploads that are under way may continue after SIGTERM. Those of tus can be resumed at another server.
STOP_SECONDS = 10


def serve(
    settings: Settings,
    rules: ServerRules,
    authenticator: Authenticator,
    *,
    host: str,
    port: int,
    workers: int,
    observe: ObserveJob,
    ready: Callable[[str], None],
) -> None:
    """Serve at ``host`` and ``port`` (0 for a free one), with ``workers`` processes that run the jobs.

    ``ready`` is told the URL as soon as connections are accepted. Raises SettingsError where the address cannot be
    used, and StoreError where the job store cannot.
    """
    logging.getLogger("uvicorn").addHandler(logging.StreamHandler())
    open_store(settings).__exit__(None, None, None)
    with _listening(host, port) as listener:
        server = _server(settings, rules, authenticator)
        shown = f"[{host}]" if ":" in host else host
        ready(f"http://{shown}:{listener.getsockname()[1]}")
        with WorkerPool(settings, workers, observe):
            asyncio.run(server.serve(sockets=[listener]))


def _server(settings: Settings, rules: ServerRules, authenticator: Authenticator) -> uvicorn.Server:
    config = uvicorn.Config(
        partial(application, settings, authenticator, rules),
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
        limit_concurrency=MAX_CONNECTIONS,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=STOP_SECONDS,
    )
    return _Server(config)


class _Server(uvicorn.Server):
    """Lets a SIGINT that was ignored when the process began stay ignored, as `graceful_shutdown` does."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        with super().capture_signals():
            if ignored:
                signal.signal(signal.SIGINT, signal.SIG_IGN)
            yield


def _listening(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise SettingsError(f"cannot listen at {host} port {port}: {error.strerror}") from error
    except UnicodeError as error:
        raise SettingsError(f"cannot listen at {host} port {port}: this is not the name of a host") from error
