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
# What else is open: files in the spool, databases, and the pipes of the workers.
OTHER_DESCRIPTORS = 512
KEEP_ALIVE_SECONDS = 30
# How long uploads that are under way may continue after SIGTERM. Those of tus can be resumed at another server.
STOP_SECONDS = 1


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
        with WorkerPool(settings, workers, observe) as pool:
            server.on_signal = pool.stop
            asyncio.run(server.serve(sockets=[listener]))


def _server(settings: Settings, rules: ServerRules, authenticator: Authenticator) -> "_Server":
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
        limit_concurrency=_most_connections(),
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=STOP_SECONDS,
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
