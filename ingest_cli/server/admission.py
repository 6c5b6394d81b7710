"""Who may send a body now: so many at once, and no more than there is room for. No client can take it all."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.filesize import decimal
from starlette.requests import Request

from ..jobs.spool import NoRoom
from ..text import counted
from .authentication import Refusal

MAX_RECEPTIONS = 128
BUSY_SECONDS = 10


class Claim(Protocol):
    """An upload that is under way, and for which room is kept."""

    @property
    def client(self) -> str:
        """Whose upload it is."""

    def left(self) -> int:
        """How many bytes are still to come."""


class Room:
    """The room in the spool, as much as is ``free`` but for ``reserve`` bytes, and who claims it.

    The claims of others count for half of the room at most: nobody is shut out by what others only announce.
    """

    def __init__(self, free: Callable[[], int], reserve: int) -> None:
        self._free, self._reserve = free, reserve
        self._claims: set[Claim] = set()
        self._lock = threading.Lock()

    def claim(self, claim: Claim, wanted: int) -> None:
        """Keep room for an upload of ``wanted`` bytes until it is `release`d. Raises NoRoom."""
        with self._lock:
            room = self._free() - self._reserve
            own, others = 0, 0
            for other in self._claims:
                if other.client == claim.client:
                    own += other.left()
                else:
                    others += other.left()
            taken = own + min(others, max(0, room // 2))
            if wanted > room - taken:
                claimed = f", of which other uploads that are under way need {decimal(taken)}" if taken else ""
                raise NoRoom(f"no room for {decimal(wanted)}: the spool has room for {decimal(max(0, room))}{claimed}")
            self._claims.add(claim)

    def keep(self, claim: Claim) -> None:
        """Keep room for an upload that exists, as far as there is any."""
        with self._lock:
            self._claims.add(claim)

    def release(self, claim: Claim) -> None:
        """The upload has ended."""
        with self._lock:
            self._claims.discard(claim)


class Reception:
    """The reception of one body, from ``client``."""

    def __init__(self, client: str, room: Room) -> None:
        self.client, self._room, self._left = client, room, 0

    def left(self) -> int:
        """How many bytes are still to come, of those that were announced."""
        return self._left

    def announced(self, length: int) -> None:
        """Keep room for a body of so many bytes. Raises NoRoom."""
        self._left = length
        self._room.claim(self, length)

    def arrived(self, length: int) -> None:
        """So many bytes have come."""
        self._left = max(0, self._left - length)


class Receptions:
    """The bodies that are being received: at most half of MAX_RECEPTIONS from one client."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._receptions: list[Reception] = []

    @contextmanager
    def admit(self, request: Request) -> Iterator[Reception]:
        """Have a place for the body of ``request``. Raises Refusal where there is none."""
        reception = Reception(client_of(request), self._room)
        of_client = sum(other.client == reception.client for other in self._receptions)
        if of_client >= MAX_RECEPTIONS // 2 or len(self._receptions) >= MAX_RECEPTIONS:
            busy = counted(len(self._receptions), "upload is", "uploads are")
            raise Refusal(503, f"{busy} under way: try again later", {"Retry-After": str(BUSY_SECONDS)})
        self._receptions.append(reception)
        try:
            yield reception
        finally:
            self._receptions.remove(reception)
            self._room.release(reception)


def client_of(request: Request) -> str:
    """Who asks: the user and the address."""
    return f"{request.state.user} {request.client.host if request.client else ''}"
