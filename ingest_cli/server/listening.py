"""Where the server listens: at an address, at a Unix socket, or where another program has begun to.

A socket that systemd or a supervisor has opened outlives the server, and can be shared by two: what connects while one
takes the place of the other waits in it, and is not refused.
"""

import errno
import fcntl
import os
import socket
import stat
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from ..disk import opened
from ..errors import SettingsError

BACKLOG = 512
# The first descriptor that systemd passes (sd_listen_fds).
FIRST_PASSED = 3
# Whoever may write to it may connect to it: those of its group, such as a proxy.
UNIX_MODE = 0o660
FAMILIES = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)


@dataclass(frozen=True, slots=True)
class Listener:
    """A ``listening`` socket. ``host`` is its address, None of a Unix socket; ``url`` is for people."""

    listening: socket.socket
    host: str | None
    url: str

    @classmethod
    def of(cls, listening: socket.socket, host: str | None = None) -> "Listener":
        """The listener of a socket, which is known by the name ``host`` where that is given."""
        place = listening.getsockname()
        if listening.family == socket.AF_UNIX:
            return cls(listening, None, f"unix:{os.fsdecode(place)}")
        host = place[0] if host is None else host
        return cls(listening, host, f"http://{f'[{host}]' if ':' in host else host}:{place[1]}")


def listening_at(
    host: str, port: int, *, unix: Path | None = None, descriptor: int | None = None
) -> AbstractContextManager[list[Listener]]:
    """Listen at the socket ``unix`` or the open ``descriptor`` where it is given, or else where systemd has begun to.

    Where it has not, listen at ``host`` and ``port``. Raises SettingsError.
    """
    if unix is not None and descriptor is not None:
        raise SettingsError("--unix and --fd cannot be used together")
    if unix is not None:
        return at_unix_socket(unix)
    descriptors = passed_descriptors(os.environ) if descriptor is None else [descriptor]
    return at_descriptors(descriptors) if descriptors else at_address(host, port)


@contextmanager
def at_address(host: str, port: int) -> Iterator[list[Listener]]:
    """Listen at ``host`` and ``port``, 0 for a free one. Raises SettingsError where that is not possible."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listening = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise SettingsError(f"cannot listen at {host} port {port}: {error.strerror}") from error
    except UnicodeError as error:
        raise SettingsError(f"cannot listen at {host} port {port}: this is not the name of a host") from error
    with listening:
        yield [Listener.of(listening, host)]


@contextmanager
def at_unix_socket(path: Path) -> Iterator[list[Listener]]:
    """Listen at ``path``, in place of a server that has died there. The socket is removed at the end.

    Raises SettingsError where another server listens there, or something else is there.
    """
    with socket.socket(socket.AF_UNIX) as listening:
        try:
            # Of two servers that start at once the second finds the first.
            with opened(path.parent) as folder:
                fcntl.flock(folder, fcntl.LOCK_EX)
                _remove_dead(path)
                listening.bind(str(path))
                path.chmod(UNIX_MODE)
                listening.listen(BACKLOG)
        except OSError as error:  # a path that is too long has no number
            raise SettingsError(f"cannot listen at {path}: {error.strerror or error}") from error
        found = path.lstat()
        try:
            yield [Listener.of(listening)]
        finally:
            with suppress(OSError):
                if os.path.samestat(found, path.lstat()):
                    path.unlink()


@contextmanager
def at_descriptors(descriptors: list[int]) -> Iterator[list[Listener]]:
    """Listen at sockets that others have opened, and that stay open with them. Raises SettingsError for any other."""
    with ExitStack() as stack:
        yield [Listener.of(stack.enter_context(_inherited(descriptor))) for descriptor in descriptors]


def passed_descriptors(environment: Mapping[str, str]) -> list[int]:
    """The descriptors that systemd has passed to this process, if any (sd_listen_fds)."""
    if environment.get("LISTEN_PID") != str(os.getpid()):
        return []
    count = environment.get("LISTEN_FDS", "")
    return list(range(FIRST_PASSED, FIRST_PASSED + int(count))) if count.isascii() and count.isdigit() else []


def _remove_dead(path: Path) -> None:
    """Remove the socket of a server that has died. Raises SettingsError where it is anything else, or alive."""
    with suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise SettingsError(f"cannot listen at {path}: it is there already, and is not a socket")
        with socket.socket(socket.AF_UNIX) as trial:
            trial.settimeout(0)
            failure = trial.connect_ex(str(path))
        # One that is too busy to take a connection is alive, too.
        if failure != errno.ECONNREFUSED:
            raise SettingsError(f"cannot listen at {path}: another server does")
        path.unlink()


def _inherited(descriptor: int) -> socket.socket:
    try:
        listening = socket.socket(fileno=descriptor)
    except OSError as error:
        raise SettingsError(f"cannot listen at descriptor {descriptor}: {error.strerror}") from error
    try:
        is_listening = listening.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError:
        is_listening = 0
    if not is_listening or listening.type != socket.SOCK_STREAM or listening.family not in FAMILIES:
        listening.detach()  # it is not ours to close
        raise SettingsError(f"cannot listen at descriptor {descriptor}: it is not a listening socket of TCP or Unix")
    listening.set_inheritable(False)
    return listening
