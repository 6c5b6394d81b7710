"""Compressed files: known by their first bytes, and unpacked to the last one, in small steps and within bounds.

The decompressors are fed by hand: one read of gzip's, bz2's or lzma's file object may take minutes, and none of these
reads all that the tools of its format write.
"""

import bz2
import lzma
import os
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from rich.filesize import decimal

from ..errors import BundleError, BundleTruncated, ResourceUnavailable

READ_BYTES = 64 << 10
STEP_BYTES = 1 << 20
LONGEST_START = 6
# xz -9 needs 65 MiB. What asks for more would do so of every worker at once.
MAX_MEMORY = 256 << 20
# Small files may unpack to so much, larger ones to so many times their size: more than gzip ever packs, and what others
# pack more than that is next to nothing but zeros.
FREE_BYTES = 1 << 30
MAX_RATIO = 1100


class Decompressor(Protocol):
    """Unpacks one stream, as those of bz2, lzma and zstd do."""

    @property
    def eof(self) -> bool:
        """Whether the stream has ended."""

    @property
    def needs_input(self) -> bool:
        """Whether it has no more to give of what it was given."""

    @property
    def unused_data(self) -> bytes:
        """What it was given beyond the stream's end."""

    def decompress(self, data: bytes, max_length: int) -> bytes:
        """Take ``data`` and give up to so many bytes."""


@dataclass(frozen=True, slots=True)
class Compression:
    """A format. Its streams begin with what ``start`` matches, and may follow one another.

    Padding between streams, which are zero bytes, is a multiple of ``alignment`` long; with 0 it comes last only.
    """

    name: str
    start: re.Pattern[bytes]
    decompressor: Callable[[], Decompressor]
    alignment: int = 0


class _Zlib:
    """zlib's decompressor, with the methods of the others."""

    def __init__(self, window_bits: int) -> None:
        self._stream = zlib.decompressobj(window_bits)
        self.needs_input = True

    @property
    def eof(self) -> bool:
        return self._stream.eof

    @property
    def unused_data(self) -> bytes:
        return self._stream.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        given = self._stream.decompress(self._stream.unconsumed_tail + data, max_length)
        self.needs_input = len(given) < max_length and not self._stream.unconsumed_tail
        return given


def _gzip() -> Decompressor:
    return _Zlib(16 + zlib.MAX_WBITS)


def _xz() -> Decompressor:
    return lzma.LZMADecompressor(lzma.FORMAT_XZ, MAX_MEMORY)


def _zstd() -> Decompressor:
    module = zstd_module()
    if module is None:
        raise BundleError("this Python cannot unpack zstd: install backports.zstd for it, or pack the bundle with gzip")
    window = {module.DecompressionParameter.window_log_max: MAX_MEMORY.bit_length() - 1}
    decompressor: Decompressor = module.ZstdDecompressor(options=window)
    return decompressor


def zstd_module() -> Any:
    """Python's own from 3.14 on, or what brings it to earlier ones; None where there is neither."""
    for name in ("compression.zstd", "backports.zstd"):
        try:
            return import_module(name)
        except ImportError:
            continue
    return None


GZIP = Compression("gzip", re.compile(rb"\x1f\x8b"), _gzip)
BZIP2 = Compression("bzip2", re.compile(rb"BZh[1-9]"), bz2.BZ2Decompressor)
XZ = Compression("xz", re.compile(rb"\xfd7zXZ\0"), _xz, alignment=4)
ZSTD = Compression("zstd", re.compile(rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18"), _zstd)
# What pacifica-cli writes with --local-compress gzip: a stream of zlib for each MiB.
ZLIB = Compression("zlib", re.compile(rb"\x78[\x01\x5e\x9c\xda]"), lambda: _Zlib(zlib.MAX_WBITS))
COMPRESSIONS = (GZIP, BZIP2, XZ, ZSTD, ZLIB)


def compression_of(head: bytes) -> Compression | None:
    """The format of a file that begins with ``head``; None where it is none of these."""
    return next((compression for compression in COMPRESSIONS if compression.start.match(head)), None)


def unpacked(packed: BinaryIO, path: Path, compression: Compression, require: Callable[[], None]) -> Iterator[bytes]:
    """Yield what ``packed``, which is open from ``path``, unpacks to, in pieces.

    ``require`` is called every few milliseconds, and may raise to stop. Raises BundleError where the file is damaged,
    holds something else too, or unpacks to too much; BundleTruncated; OSError.
    """
    most = max(FREE_BYTES, MAX_RATIO * os.fstat(packed.fileno()).st_size)
    total = 0
    for piece in _pieces(packed, path, compression, require):
        total += len(piece)
        if total > most:
            raise BundleError(
                f"{path} unpacks to more than {decimal(most)}, {MAX_RATIO:,} times its size or more: pack it with gzip,"
                " or leave it unpacked"
            )
        yield piece


def _pieces(packed: BinaryIO, path: Path, compression: Compression, require: Callable[[], None]) -> Iterator[bytes]:
    rest = packed.read(READ_BYTES)
    while rest:
        decompressor = compression.decompressor()
        while not decompressor.eof:
            require()
            if not rest and decompressor.needs_input:
                rest = packed.read(READ_BYTES)
                if not rest:
                    raise BundleTruncated(f"{path} is truncated: it ends inside what {compression.name} packed")
            yield _step(decompressor, rest, path)
            rest = b""
        rest = _next_stream(packed, decompressor.unused_data, path, compression, require)


def _step(decompressor: Decompressor, data: bytes, path: Path) -> bytes:
    try:
        return decompressor.decompress(data, STEP_BYTES)
    except MemoryError as error:
        raise ResourceUnavailable(f"not enough memory to unpack {path}") from error
    except Exception as error:  # each module has one of its own, and zstd's may be missing
        if "memory" in str(error).lower():
            raise BundleError(
                f"{path} needs more than {decimal(MAX_MEMORY)} of memory to unpack: pack it with a smaller dictionary,"
                " such as that of xz -9"
            ) from error
        raise BundleError(f"{path} is damaged: {error}") from error


def _next_stream(
    packed: BinaryIO, rest: bytes, path: Path, compression: Compression, require: Callable[[], None]
) -> bytes:
    """The beginning of the next stream, behind the padding; nothing at the file's end."""
    padding = 0
    while True:
        require()
        begun = rest.lstrip(b"\0")
        padding += len(rest) - len(begun)
        if begun:
            break
        rest = packed.read(READ_BYTES)
        if not rest:
            break
    if len(begun) < LONGEST_START:
        begun += packed.read(READ_BYTES)
    is_next = compression.start.match(begun) and (padding == 0 or compression.alignment)
    if (begun and not is_next) or padding % (compression.alignment or 1):
        raise BundleError(f"{path} is damaged: behind what {compression.name} packed comes something else")
    return begun
