"""Hashes the large files of a tar while it arrives, so that they need not be read again to be checked."""

import hashlib
import os
import re
import sys
import threading
from contextlib import suppress
from pathlib import Path

from ..errors import BundleError
from .content import CHUNK_BYTES
from .listed import HASH_TYPES
from .reader import METADATA_NAME
from .sums import note_sums
from .tar import Member, members_in

# Smaller ones are read in no time.
LARGE_BYTES = 1 << 20
# Hashing that is so far behind does not keep what has arrived waiting.
MOST_BEHIND = 256 << 20
# Hashing is given up where nothing comes for so long.
IDLE_SECONDS = 60.0
# What is expected, unless a document that came first has another one.
HASHTYPE = "sha1"
HASHTYPE_RECORDED = re.compile(rb'"hashtype"\s*:\s*"(\w+)"')
# A document of which no more is known than that.
LONGEST_DOCUMENT = 16 << 20


class Arrival:
    """The tar that is written to ``path``, and read by a thread as soon as it is there.

    Whether it is a tar at all nobody knows yet: where it is not, or where its reading fails, nothing is known of it.
    """

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._news = threading.Condition()
        self._written, self._read = 0, 0
        self._is_whole = self._is_given_up = False
        self._hashtype = HASHTYPE
        self._parts: list[tuple[int, int, bytes]] = []
        self._thread = threading.Thread(target=self._run, name="arrival", daemon=True)
        self._thread.start()

    @property
    def goes_on(self) -> bool:
        """Whether it is still read: it is not, after nothing has come for long."""
        return self._thread.is_alive()

    def wrote(self, length: int) -> None:
        """So many bytes are there by now."""
        with self._news:
            self._written = length
            self._news.notify()

    def finish(self) -> None:
        """All is there: note at the file what its files hash to, if that is known soon."""
        with self._news:
            self._is_whole = True
            self._is_given_up |= self._written - self._read > MOST_BEHIND
            self._news.notify()
        self._thread.join()

    def close(self) -> None:
        """Hash no more."""
        with self._news:
            self._is_given_up = True
            self._news.notify()
        self._thread.join()

    def read(self, position: int, length: int) -> bytes:
        """So many bytes from ``position``, when they are there; less at the tar's end."""
        self._await(position + length)
        return os.pread(self._descriptor, length, position)

    def _await(self, length: int) -> None:
        """Wait until so many bytes are there, or all. Raises _GivenUp."""
        with self._news:
            is_news = True
            while is_news and not (self._is_given_up or self._is_whole or self._written >= length):
                is_news = self._news.wait(IDLE_SECONDS)
            if self._is_given_up or not is_news:
                raise _GivenUp

    def _run(self) -> None:
        with suppress(_GivenUp, OSError):
            with suppress(BundleError):
                self._hash_all()
            self._await(sys.maxsize)
            note_sums(self._descriptor, self._hashtype, self._parts)
        os.close(self._descriptor)

    def _hash_all(self) -> None:
        for member in members_in(self, sys.maxsize):
            if member.name == METADATA_NAME and not self._parts and member.size <= LONGEST_DOCUMENT:
                self._hashtype = _hashtype_in(self.read(member.offset, member.size))
            elif member.size >= LARGE_BYTES:
                self._hash(member)

    def _hash(self, member: Member) -> None:
        digest = hashlib.new(self._hashtype, usedforsecurity=False)
        end = member.offset + member.size
        for position in range(member.offset, end, CHUNK_BYTES):
            self._read = position
            chunk = self.read(position, min(CHUNK_BYTES, end - position))
            digest.update(chunk)
        if len(chunk) == min(CHUNK_BYTES, end - position):
            self._parts.append((member.offset, member.size, digest.digest()))


class _GivenUp(Exception):
    """Nobody waits for the hashes any more."""


def _hashtype_in(document: bytes) -> str:
    """The type of hash that a document records for all its files, where that is one."""
    found = {name.decode() for name in HASHTYPE_RECORDED.findall(document)}
    return found.pop() if len(found) == 1 and found <= HASH_TYPES else HASHTYPE
