"""Receives the body of a request whose length is known where it is to be used: in large pieces, none of them copied.

There is nothing in it to be parsed; and a parser, asyncio and uvicorn would each copy every byte.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol

# What is read at once, or what has come in so many seconds.
PIECE_BYTES = 512 << 10
PIECE_SECONDS = 0.1
# Of a few bodies more is received at once, which takes less time, and of very many less, which takes less memory.
SMALLEST_PIECE, LARGEST_PIECE = 256 << 10, 1 << 20
PIECES_BYTES = 16 << 20


class Reader(Protocol):
    """Who reads a body: ``body`` is what it can have at once."""

    body: bytearray


class KnownBody(asyncio.BufferedProtocol):
    """Receives the ``left`` bytes of a body in place of the connection's ``owner``, a piece at a time.

    It is one of so many ``connections``. ``arrived`` is called whenever something came. What comes when it is not
    ``is_wanted`` any more is forgotten.
    """

    def __init__(
        self,
        owner: asyncio.Protocol,
        left: int,
        connections: int,
        arrived: Callable[["KnownBody"], None],
        is_wanted: Callable[[], bool],
    ) -> None:
        self.left = left
        self._owner, self._arrived, self._is_wanted = owner, arrived, is_wanted
        self._most = min(LARGEST_PIECE, max(SMALLEST_PIECE, PIECES_BYTES // connections))
        self._begin()

    @property
    def is_begun(self) -> bool:
        """Whether something of a piece has come."""
        return self._filled > 0

    @property
    def is_full(self) -> bool:
        """Whether all of a piece has come: no more is to be received until it is handed over."""
        return self._filled == len(self._piece)

    def hand_over(self, reader: Reader) -> None:
        """Let ``reader`` have what has come of the piece, and begin another one."""
        if reader.body:
            reader.body += memoryview(self._piece)[: self._filled]
        else:
            del self._piece[self._filled :]
            reader.body = self._piece
        self._begin()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the next bytes go."""
        if not self._is_wanted():
            self._begin()
        elif self.is_full:
            # The request before this one, on the same connection, has had more received.
            self._piece += bytes(min(self.left, self._most))
        return memoryview(self._piece)[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        """So many bytes came."""
        self._filled += nbytes
        self.left -= nbytes
        self._arrived(self)

    def eof_received(self) -> bool | None:
        """The client sends no more."""
        return self._owner.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection broke."""
        self._owner.connection_lost(exc)

    def pause_writing(self) -> None:
        """The client reads more slowly than it is answered."""
        self._owner.pause_writing()

    def resume_writing(self) -> None:
        """The client has read."""
        self._owner.resume_writing()

    def _begin(self) -> None:
        self._piece, self._filled = bytearray(min(self.left, self._most)), 0
