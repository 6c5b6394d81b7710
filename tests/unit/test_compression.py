"""Unpacking: what the tools of each format write, nothing else behind it, and bounds."""

import bz2
import gzip
import io
import lzma
import random
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from ingest_cli.bundle.compression import (
    FREE_BYTES,
    MAX_MEMORY,
    MAX_RATIO,
    READ_BYTES,
    STEP_BYTES,
    compression_of,
    unpacked,
    zstd_module,
)
from ingest_cli.errors import BundleError, BundleTruncated, Interrupted

PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zlib": zlib.compress,
}
if (zstd := zstd_module()) is not None:
    PACKERS["zstd"] = zstd.compress
CONTENT = random.Random(1).randbytes(300_000) + bytes(3 << 20)


@pytest.fixture(params=PACKERS)
def pack(request: pytest.FixtureRequest) -> Callable[[bytes], bytes]:
    return PACKERS[request.param]


@pytest.fixture
def unpack(tmp_path: Path) -> Callable[..., bytes]:
    path = tmp_path / "packed"

    def unpack(packed: bytes, require: Callable[[], None] = lambda: None) -> bytes:
        path.write_bytes(packed)
        compression = compression_of(packed)
        assert compression is not None
        whole = io.BytesIO()
        with path.open("rb") as file:
            for piece in unpacked(file, path, compression, require):
                assert len(piece) <= STEP_BYTES
                whole.write(piece)
        return whole.getvalue()

    return unpack


@pytest.mark.sweep
def test_streams_stand_one_behind_the_other(unpack: Callable[..., bytes], pack: Callable[[bytes], bytes]) -> None:
    for step in (len(CONTENT), 1 << 20, READ_BYTES + 1):
        packed = b"".join(pack(CONTENT[start : start + step]) for start in range(0, len(CONTENT), step))
        assert unpack(packed) == CONTENT
    assert unpack(pack(b"") * 1000 + pack(b"x")) == b"x"


def test_it_is_cut_short_anywhere(unpack: Callable[..., bytes], pack: Callable[[bytes], bytes]) -> None:
    packed = pack(CONTENT)
    for length in [*range(8, 40), *range(40, len(packed), 50_001), len(packed) - 1]:
        with pytest.raises(BundleTruncated, match="is truncated"):
            unpack(packed[:length])


@pytest.mark.sweep
def test_it_is_damaged_anywhere(unpack: Callable[..., bytes], pack: Callable[[bytes], bytes]) -> None:
    if pack is PACKERS.get("zstd"):
        pytest.skip("zstd writes no checksum unless it is told to")
    content = random.Random(1).randbytes(100_000)
    packed = pack(content)
    for at in [*range(10, 40), *range(40, len(packed), 1009), len(packed) - 1]:
        damaged = packed[:at] + bytes([packed[at] ^ 0x10]) + packed[at + 1 :]
        try:
            unpacked = unpack(damaged)
        except BundleError:
            continue
        assert unpacked == content  # it was a byte of no account


@pytest.mark.sweep
@pytest.mark.parametrize("junk", [b"junk", b"\0\0\0\0junk", b"\0" * 100_000 + b"junk", b"\n"])
def test_something_else_stands_behind_it(
    unpack: Callable[..., bytes], pack: Callable[[bytes], bytes], junk: bytes
) -> None:
    with pytest.raises(BundleError, match="comes something else"):
        unpack(pack(CONTENT) + junk)


def test_zeros_stand_behind_it(unpack: Callable[..., bytes], pack: Callable[[bytes], bytes]) -> None:
    """A tape has them, and a disk that a file was copied from in blocks."""
    assert unpack(pack(CONTENT) + bytes(10_240)) == CONTENT


def test_xz_has_padding_between_its_streams_and_others_have_none(unpack: Callable[..., bytes]) -> None:
    xz = lzma.compress(b"x")
    assert unpack(xz + bytes(4) + xz + bytes(100_000) + xz + bytes(8)) == b"xxx"
    for padding in (1, 3, 6):
        with pytest.raises(BundleError, match="comes something else"):
            unpack(xz + bytes(padding) + xz)
        with pytest.raises(BundleError, match="comes something else"):
            unpack(xz + bytes(padding))
    for pack in (gzip.compress, bz2.compress, zlib.compress):
        with pytest.raises(BundleError, match="comes something else"):
            unpack(pack(b"x") + bytes(4) + pack(b"x"))


def test_another_format_stands_behind_it(unpack: Callable[..., bytes]) -> None:
    with pytest.raises(BundleError, match="comes something else"):
        unpack(gzip.compress(b"x") + bz2.compress(b"x"))


@pytest.mark.sweep
def test_what_unpacks_to_much_more_than_it_is(unpack: Callable[..., bytes]) -> None:
    bomb = lzma.compress(bytes(64 << 20)) * (FREE_BYTES // (64 << 20))
    assert len(bomb) * MAX_RATIO < FREE_BYTES
    assert len(unpack(bomb)) == FREE_BYTES
    with pytest.raises(BundleError, match=r"unpacks to more than 1\.1 GB"):
        unpack(bomb + lzma.compress(b"x"))


def test_gzip_never_unpacks_to_too_much(tmp_path: Path) -> None:
    packed = gzip.compress(bytes(64 << 20), 9)
    assert (64 << 20) / len(packed) < MAX_RATIO


def test_what_needs_much_memory(unpack: Callable[..., bytes]) -> None:
    needed = MAX_MEMORY + 1
    greedy = lzma.compress(b"x", filters=[{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": needed}])
    with pytest.raises(BundleError, match=r"needs more than 268\.4 MB of memory"):
        unpack(greedy)
    assert unpack(lzma.compress(CONTENT, preset=9 | lzma.PRESET_EXTREME)) == CONTENT


def test_it_asks_all_the_time_whether_to_stop(unpack: Callable[..., bytes], pack: Callable[[bytes], bytes]) -> None:
    asked = 0

    def stop() -> None:
        nonlocal asked
        asked += 1
        if asked == 5:
            raise Interrupted

    for packed in (pack(bytes(16 << 20)), pack(b"") * 1000, pack(b"x") + bytes(4 << 20)):
        asked = 0
        with pytest.raises(Interrupted):
            unpack(packed, stop)


def test_zstd_where_python_cannot_unpack_it(unpack: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("compression.zstd", "backports.zstd"):
        monkeypatch.setitem(sys.modules, name, None)  # as where it is not installed
    with pytest.raises(BundleError, match=r"install backports\.zstd for it, or pack the bundle with gzip"):
        unpack(b"\x28\xb5\x2f\xfd rest")
