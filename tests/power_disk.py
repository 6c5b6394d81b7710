"""A disk whose power can be cut: every write to it and every flush is recorded, and it is rebuilt as of any of them.

As a program, it serves one regular file over the raw protocol of FUSE (linux/fuse.h; nothing but /dev/fuse is needed),
notes each event in the order in which the kernel sends it, and only then answers. That file is mounted by way of a
loop device, which passes the file system's barriers on as fsyncs. Without FUSE's writeback cache no write is held back.

`Disk` is the other side. The power goes between two events: what was written before the last flush is on the platter;
of what came later, the disk's cache may have saved nothing, anything or all. Pieces of 4 KiB, which today's disks write
whole or not at all, are saved one by one.
"""

import ctypes
import errno
import mmap
import os
import random
import select
import shutil
import stat
import struct
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PIECE = 4096
ZEROS = bytes(PIECE)
NONE, SOME, ALL = KEEPS = ("none", "some", "all")
PATIENCE = 20.0

# An event: where, and how many bytes were written. No bytes are a flush.
EVENT = struct.Struct("=QQ")
CLONE_NEWNS, MS_REC, MS_PRIVATE = 0x20000, 0x4000, 0x40000
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class FileSystem:
    """How a disk is formatted, and how large it must be: no larger than its own program, and our reserve, ask for."""

    size: int
    options: tuple[str, ...]


FILE_SYSTEMS = {
    # Nothing may be left for a thread in the background to initialise: it would write into the recording.
    "ext4": FileSystem(64 << 20, ("-q", "-F", "-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0")),
    "xfs": FileSystem(300 << 20, ("-q", "-f", "-K")),
    "btrfs": FileSystem(256 << 20, ("-q", "-f", "-K")),
}


class DiskUnavailable(Exception):
    """Such a disk is not to be had on this machine."""


@contextmanager
def mounts_of_our_own() -> Iterator[None]:
    """What is mounted inside the block, only this process and its children see: it goes with them, if not before."""
    folder = Path.cwd()
    before = os.open("/proc/thread-self/ns/mnt", os.O_RDONLY)
    try:
        if _libc.unshare(CLONE_NEWNS) or _libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None):
            raise DiskUnavailable(f"no mounts of our own: {os.strerror(ctypes.get_errno())}")
        yield
    finally:
        _libc.setns(before, CLONE_NEWNS)
        os.close(before)
        # To change the mounts is to be at their root.
        os.chdir(folder)


def format_disk(system: str, path: Path) -> Path:
    """Make an empty disk at ``path``."""
    kind = FILE_SYSTEMS[system]
    program = shutil.which(f"mkfs.{system}", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if program is None:
        raise DiskUnavailable(f"there is no mkfs.{system}")
    with path.open("wb") as file:
        file.truncate(kind.size)
    subprocess.run([program, *kind.options, path], check=True, capture_output=True)
    return path


class Disk:
    """A disk of this file ``system``, which is at first as ``base``, and is mounted at ``place``."""

    def __init__(self, system: str, base: Path, folder: Path, place: Path) -> None:
        self.system, self.place, self._base, self._folder = system, place, base, folder
        folder.mkdir()
        place.mkdir()
        self._file, self._image = folder / "disk", folder / "rebuilt"
        self._events, self._data = folder / "events", folder / "data"
        for path in (self._file, self._events, self._data):
            path.touch()
        self._platter: _Platter | None = None

    def __enter__(self) -> "Disk":
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._folder)

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Mounted, with all that is written to it recorded."""
        with self._served(), self._mounted(self._file, DiskUnavailable):
            yield
        self._platter = _Platter(self._base, list(_events(self._events.read_bytes(), self._data.read_bytes())))

    def now(self) -> int:
        """How many events there were."""
        return self._events.stat().st_size // EVENT.size

    def sync(self) -> None:
        """Have all that was written on the platter."""
        descriptor = os.open(self.place, os.O_RDONLY)
        try:
            if _libc.syncfs(descriptor):
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        finally:
            os.close(descriptor)

    def loose(self, instant: int) -> int:
        """How many writes might have been lost, had the power gone after the first ``instant`` events."""
        assert self._platter is not None
        return instant - self._platter.flushed(instant)

    @contextmanager
    def rebuilt(self, instant: int, keep: str, seed: str = "") -> Iterator[None]:
        """Mounted as after a loss of power that came after the first ``instant`` events."""
        assert self._platter is not None
        pieces = self._platter.after(instant, keep, random.Random(f"{seed} {instant} {keep}"))
        with self._image.open("wb") as image:
            image.truncate(self._base.stat().st_size)
            for number, piece in pieces.items():
                os.pwrite(image.fileno(), piece, number * PIECE)
        try:
            with self._mounted(self._image, AssertionError):
                yield
        finally:
            self._image.unlink()

    @contextmanager
    def _served(self) -> Iterator[None]:
        words = [sys.executable, "-B", __file__, self._base, self._file, self._events, self._data]
        # Its standard input tells it when we are gone.
        pipe = subprocess.PIPE
        # A Ctrl-C, which is for the whole group of ours, must not end it before the disk is unmounted.
        with subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            assert process.stderr is not None
            try:
                if not process.stdout.readline():
                    raise DiskUnavailable(process.stderr.read().decode().strip().rpartition("\n")[2])
                try:
                    yield
                finally:
                    _unmount(self._file)
            finally:
                process.stdin.close()
                try:
                    process.wait(PATIENCE)
                finally:
                    process.kill()

    @contextmanager
    def _mounted(self, image: Path, error: type[Exception]) -> Iterator[None]:
        if self.system == "btrfs":
            # The kernel remembers the disks that it has seen, and refuses an older state of one.
            subprocess.run(["btrfs", "device", "scan", "--forget"], capture_output=True)
        words = ["mount", "-t", self.system, "-o", "loop", image, self.place]
        done = subprocess.run(words, capture_output=True, text=True)
        if done.returncode:
            raise error(f"{self.system} cannot be mounted by way of a loop device: {done.stderr.strip()}")
        try:
            yield
        finally:
            _unmount(self.place)


def _unmount(place: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while (done := subprocess.run(["umount", place], capture_output=True, text=True)).returncode:
        if time.monotonic() > deadline:
            subprocess.run(["umount", "-l", place], capture_output=True)
            raise AssertionError(f"{place} is still in use: {done.stderr.strip()}")
        time.sleep(0.05)


Event = tuple[int, bytes]


class _Platter:
    """What the disk holds, as the numbers and the bytes of its pieces; those of zeros only are left out."""

    def __init__(self, base: Path, events: list[Event]) -> None:
        self._base, self._events = base, events
        self._pieces, self._reached = dict(_pieces_of(base)), 0

    def flushed(self, instant: int) -> int:
        """How many of the first ``instant`` events have become certain by a flush."""
        while instant and self._events[instant - 1][1]:
            instant -= 1
        return instant

    def after(self, instant: int, keep: str, chance: random.Random) -> dict[int, bytes]:
        """The pieces after a loss of power. Instants that never go back are the quickest."""
        flushed = self.flushed(instant)
        if flushed < self._reached:
            self._pieces, self._reached = dict(_pieces_of(self._base)), 0
        for number, inner, part in _parts(self._events[self._reached : flushed]):
            _write(self._pieces, number, inner, part)
        self._reached = flushed
        share = {NONE: 0.0, SOME: chance.choice((0.2, 0.5, 0.8)), ALL: 1.0}[keep]
        pieces = dict(self._pieces)
        for number, inner, part in _parts(self._events[flushed:instant]):
            if chance.random() < share:
                _write(pieces, number, inner, part)
        return pieces


def _events(headers: bytes, data: bytes) -> Iterator[Event]:
    position = 0
    for offset, length in EVENT.iter_unpack(headers):
        yield offset, data[position : position + length]
        position += length


def _parts(events: Iterable[Event]) -> Iterator[tuple[int, int, bytes]]:
    """The piece, the place in it and the bytes of each part of what was written."""
    for offset, data in events:
        done = 0
        while done < len(data):
            number, inner = divmod(offset + done, PIECE)
            part = data[done : done + PIECE - inner]
            yield number, inner, part
            done += len(part)


def _write(pieces: dict[int, bytes], number: int, inner: int, part: bytes) -> None:
    if len(part) < PIECE:
        old = pieces.get(number, ZEROS)
        part = old[:inner] + part + old[inner + len(part) :]
    pieces[number] = part


def _pieces_of(path: Path) -> Iterator[tuple[int, bytes]]:
    with path.open("rb") as file:
        size, begin = os.fstat(file.fileno()).st_size, 0
        while begin < size:
            try:
                begin = os.lseek(file.fileno(), begin, os.SEEK_DATA)
            except OSError as error:
                if error.errno == errno.ENXIO:
                    return
                raise
            end = os.lseek(file.fileno(), begin, os.SEEK_HOLE)
            for number in range(begin // PIECE, -(-end // PIECE)):
                piece = os.pread(file.fileno(), PIECE, number * PIECE)
                if piece != ZEROS:
                    yield number, piece
            begin = end


# The program: linux/fuse.h, in so far as one file needs it.

LOOKUP, FORGET, GETATTR, SETATTR, OPEN, READ, WRITE, STATFS, RELEASE, FSYNC = 1, 2, 3, 4, 14, 15, 16, 17, 18, 20
FLUSH, INIT, INTERRUPT, DESTROY, BATCH_FORGET = 25, 26, 36, 38, 42
UNANSWERED = {FORGET, INTERRUPT, BATCH_FORGET}
REQUEST = struct.Struct("=IIQQIIII")
REPLY = struct.Struct("=IiQ")
TRANSFER = struct.Struct("=QQIIQII")
ATTRIBUTES = struct.Struct("=QII" + "QQQQQQ" + "IIIIIIIIII")
STARTED = struct.Struct("=IIIIHHIIHHI28x")
OPENED = struct.Struct("=QII")
WRITTEN = struct.Struct("=II")
BIG_WRITES, MAX_PAGES, KEEP_CACHE = 1 << 5, 1 << 22, 1 << 1
MAX_WRITE = 1 << 20


class _Server:
    def __init__(self, base: Path, place: Path, events: Path, data: Path) -> None:
        size = base.stat().st_size
        self._disk = mmap.mmap(-1, size)
        for number, piece in _pieces_of(base):
            self._disk[number * PIECE : (number + 1) * PIECE] = piece
        self._events, self._data = (os.open(path, os.O_WRONLY | os.O_APPEND) for path in (events, data))
        self._kernel = os.open("/dev/fuse", os.O_RDWR)
        options = f"fd={self._kernel},rootmode={stat.S_IFREG | 0o600:o},user_id=0,group_id=0,max_read={MAX_WRITE}"
        if _libc.mount(b"disk", os.fsencode(place), b"fuse", 0, options.encode()):
            raise OSError(ctypes.get_errno(), f"cannot mount over FUSE: {os.strerror(ctypes.get_errno())}")
        self._attributes = ATTRIBUTES.pack(
            *(3600, 0, 0, 1, size, size // 512, 0, 0, 0, 0, 0, 0, stat.S_IFREG | 0o600, 1, 0, 0, 0, PIECE, 0)
        )

    def serve(self) -> None:
        """Until the file is unmounted, or nobody is at the other end of standard input."""
        poll = select.poll()
        poll.register(self._kernel, select.POLLIN)
        poll.register(0, select.POLLIN)
        while True:
            ready = dict(poll.poll())
            if 0 in ready and not os.read(0, 1):
                return
            if self._kernel in ready:
                try:
                    request = os.read(self._kernel, MAX_WRITE + PIECE)
                except OSError as error:
                    if error.errno == errno.ENODEV:
                        return
                    if error.errno in (errno.ENOENT, errno.EINTR):  # the request was taken back
                        continue
                    raise
                self._answer(request)

    def _answer(self, request: bytes) -> None:
        _, operation, unique, *_ = REQUEST.unpack_from(request)
        if operation in UNANSWERED:
            return
        body = self._do(operation, memoryview(request)[REQUEST.size :])
        status, body = (-errno.ENOSYS, b"") if body is None else (0, body)
        os.writev(self._kernel, [REPLY.pack(REPLY.size + len(body), status, unique), body])

    def _do(self, operation: int, body: memoryview) -> bytes | None:
        if operation == INIT:
            return STARTED.pack(
                7, 31, MAX_WRITE, BIG_WRITES | MAX_PAGES, 64, 48, MAX_WRITE, 1, MAX_WRITE // PIECE, 0, 0
            )
        if operation in (GETATTR, SETATTR):
            return self._attributes
        if operation == OPEN:
            return OPENED.pack(0, KEEP_CACHE, 0)
        if operation == READ:
            _, offset, size, *_ = TRANSFER.unpack_from(body)
            return self._disk[offset : offset + size]
        if operation == WRITE:
            _, offset, size, *_ = TRANSFER.unpack_from(body)
            content = body[TRANSFER.size : TRANSFER.size + size]
            self._disk[offset : offset + size] = content
            os.write(self._data, content)
            os.write(self._events, EVENT.pack(offset, size))
            return WRITTEN.pack(size, 0)
        if operation == FSYNC:
            os.write(self._events, EVENT.pack(0, 0))
            return b""
        return b"" if operation in (FLUSH, RELEASE, DESTROY) else None


if __name__ == "__main__":
    server = _Server(*map(Path, sys.argv[1:]))
    print("mounted", flush=True)
    server.serve()
