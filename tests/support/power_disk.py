"""Disks whose power can be cut: each write and each flush is recorded, and they are rebuilt as of any of them.

As a program, it serves regular files over the raw protocol of FUSE (linux/fuse.h; nothing but /dev/fuse is needed),
notes each event in the order in which the kernel sends it, and only then answers. Such a file is mounted by way of a
loop device, which passes the file system's barriers on as fsyncs. Without FUSE's writeback cache no write is held
back.

`Disks` is the other side. The power goes between two events: what was written to a disk before its last flush is on
the platter; of what came later, its cache may have saved nothing, anything or all. Pieces of 4 KiB, which today's
disks write whole or not at all, are saved one by one.
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
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

PIECE = 4096
ZEROS = bytes(PIECE)
NONE, SOME, ALL = KEEPS = ("none", "some", "all")
PATIENCE = 20.0

# An event: on which disk, where, and how many bytes were written. No bytes are a flush.
EVENT = struct.Struct("=QQQ")
CLONE_NEWNS, MS_REC, MS_PRIVATE = 0x20000, 0x4000, 0x40000
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class FileSystem:
    """How a disk is formatted, and its size: about the smallest that is accepted, and that an archive has room on."""

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
    try:
        before = os.open("/proc/thread-self/ns/mnt", os.O_RDONLY)
    except OSError as error:
        raise DiskUnavailable(f"no mounts of our own: {error.strerror}") from error
    try:
        if _libc.unshare(CLONE_NEWNS) or _libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None):
            raise DiskUnavailable(f"no mounts of our own: {os.strerror(ctypes.get_errno())}")
        yield
    finally:
        # Refused while a thread that was begun in here, as one for heartbeats, has not ended yet.
        deadline = time.monotonic() + PATIENCE
        while _libc.setns(before, CLONE_NEWNS):
            if time.monotonic() > deadline:
                raise OSError(ctypes.get_errno(), f"its mounts cannot be left: {os.strerror(ctypes.get_errno())}")
            time.sleep(0.02)
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


class Disks:
    """Disks of one machine, which lose their power together; each is mounted at its place, and at first as its base."""

    def __init__(self, system: str, bases: dict[Path, Path], folder: Path) -> None:
        self.system, self.places, self._bases = system, list(bases), list(bases.values())
        self._folder = folder
        self._events, self._data = folder / "events", folder / "data"
        self._files = [folder / f"disk {number}" for number in range(len(bases))]
        for made in (folder, *bases):
            made.mkdir()
        for path in (self._events, self._data, *self._files):
            path.touch()
        self._platters: list[_Platter] = []
        self._flushes: list[int] = []

    def __enter__(self) -> "Disks":
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._folder)

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Mounted, with all that is written to them recorded."""
        with self._served(), self._mounted(self._files, DiskUnavailable):
            yield
        events = list(_events(self._events.read_bytes(), self._data.read_bytes()))
        self._platters = [_Platter(base, events, number) for number, base in enumerate(self._bases)]
        self._flushes = [instant for instant, (_, _, data) in enumerate(events, 1) if not data]

    def now(self) -> int:
        """How many events there were."""
        return self._events.stat().st_size // EVENT.size

    def sync(self) -> None:
        """Have all that was written on the platters."""
        for place in self.places:
            with _opened(place) as descriptor:
                if _libc.syncfs(descriptor):
                    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

    def flushes(self, begin: int, end: int) -> list[int]:
        """The instants, after ``begin`` and up to ``end``, at which a flush was just done."""
        return [instant for instant in self._flushes if begin < instant <= end]

    def loose(self, instant: int) -> int:
        """How many writes might be lost if the power goes after the first ``instant`` events."""
        return sum(platter.loose(instant) for platter in self._platters)

    @contextmanager
    def rebuilt(self, instant: int, keep: str, seed: str = "") -> Iterator[None]:
        """Mounted as after a loss of power that came after the first ``instant`` events."""
        chance = random.Random(f"{seed} {instant} {keep}")
        images = []
        for base, platter in zip(self._bases, self._platters, strict=True):
            images.append(self._folder / f"rebuilt {base.name}")
            with images[-1].open("wb") as image:
                image.truncate(base.stat().st_size)
                for number, piece in platter.after(instant, keep, chance).items():
                    os.pwrite(image.fileno(), piece, number * PIECE)
        # A boot may find the disks in another order, and give them other numbers.
        with self._mounted(images, AssertionError, backwards=chance.random() < 0.5):
            yield

    @contextmanager
    def _served(self) -> Iterator[None]:
        paths = [self._events, self._data, *self._bases, *self._files]
        words = [sys.executable, "-B", __file__, *map(str, paths)]
        # Its standard input tells it when we are gone. A Ctrl-C, which is for the whole group of ours, must not end it
        # before the disks are unmounted.
        pipe = subprocess.PIPE
        with subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            assert process.stderr is not None
            try:
                if not process.stdout.readline():
                    raise DiskUnavailable(process.stderr.read().decode().strip().rpartition("\n")[2])
                yield
            finally:
                try:
                    for path in self._files:
                        _unmount(path)
                    process.stdin.close()
                    process.wait(PATIENCE)
                finally:
                    process.kill()

    @contextmanager
    def _mounted(self, images: list[Path], error: type[Exception], *, backwards: bool = False) -> Iterator[None]:
        if self.system == "btrfs":
            # The kernel remembers the disks that it has seen, and refuses an older state of one.
            subprocess.run(["btrfs", "device", "scan", "--forget"], capture_output=True)
        with ExitStack() as stack:
            for image, place in list(zip(images, self.places, strict=True))[:: -1 if backwards else 1]:
                words = ["mount", "-t", self.system, "-o", "loop", str(image), str(place)]
                done = subprocess.run(words, capture_output=True, text=True)
                if done.returncode:
                    raise error(f"{self.system} cannot be mounted by way of a loop device: {done.stderr.strip()}")
                stack.callback(_unmount, place)
            yield


@contextmanager
def _opened(folder: Path) -> Iterator[int]:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _unmount(place: Path) -> None:
    """Unmount what is mounted at ``place``, if anything is."""
    deadline = time.monotonic() + PATIENCE
    while "busy" in (said := subprocess.run(["umount", place], capture_output=True, text=True).stderr):
        if time.monotonic() > deadline:
            subprocess.run(["umount", "-l", place], capture_output=True)
            raise AssertionError(f"still in use: {said.strip()}")
        time.sleep(0.02)


# The disk (or, among those of one disk, the instant), where, and what was written.
Event = tuple[int, int, bytes]


class _Platter:
    """What one disk holds, as the numbers and the bytes of its pieces; those of zeros only are left out."""

    def __init__(self, base: Path, events: list[Event], number: int) -> None:
        self._base = base
        self._own = [(instant, offset, data) for instant, (disk, offset, data) in enumerate(events) if disk == number]
        self._instants = [instant for instant, _, _ in self._own]
        self._pieces, self._reached = dict(_pieces_of(base)), 0

    def loose(self, instant: int) -> int:
        """How many writes may be lost."""
        return len(self._split(instant)[1])

    def after(self, instant: int, keep: str, chance: random.Random) -> dict[int, bytes]:
        """The pieces after a loss of power. Instants that never go back are the quickest."""
        flushed, loose = self._split(instant)
        if flushed < self._reached:
            self._pieces, self._reached = dict(_pieces_of(self._base)), 0
        for number, inner, part in _parts(self._own[self._reached : flushed]):
            _write(self._pieces, number, inner, part)
        self._reached = flushed
        share = {NONE: 0.0, SOME: chance.choice((0.2, 0.5, 0.8)), ALL: 1.0}[keep]
        pieces = dict(self._pieces)
        for number, inner, part in _parts(loose):
            if chance.random() < share:
                _write(pieces, number, inner, part)
        return pieces

    def _split(self, instant: int) -> tuple[int, list[Event]]:
        """How many of its events a flush has made certain, and those that none has."""
        flushed = end = bisect_left(self._instants, instant)
        while flushed and self._own[flushed - 1][2]:
            flushed -= 1
        return flushed, self._own[flushed:end]


def _events(headers: bytes, data: bytes) -> Iterator[Event]:
    position = 0
    for disk, offset, length in EVENT.iter_unpack(headers):
        yield disk, offset, data[position : position + length]
        position += length


def _parts(events: Iterable[Event]) -> Iterator[tuple[int, int, bytes]]:
    """The piece, the place in it and the bytes of each part of what was written."""
    for _, offset, data in events:
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

FORGET, GETATTR, SETATTR, OPEN, READ, WRITE, RELEASE, FSYNC = 2, 3, 4, 14, 15, 16, 18, 20
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


class _Served:
    """A disk, as the file at ``place``."""

    def __init__(self, number: int, base: Path, place: Path, log: tuple[int, int]) -> None:
        size = base.stat().st_size
        self._number, self._events, self._data = number, *log
        self._content = mmap.mmap(-1, size)
        for piece_number, piece in _pieces_of(base):
            self._content[piece_number * PIECE : (piece_number + 1) * PIECE] = piece
        self.kernel = os.open("/dev/fuse", os.O_RDWR)
        options = f"fd={self.kernel},rootmode={stat.S_IFREG | 0o600:o},user_id=0,group_id=0,max_read={MAX_WRITE}"
        if _libc.mount(b"disk", os.fsencode(place), b"fuse", 0, options.encode()):
            raise OSError(ctypes.get_errno(), f"cannot mount over FUSE: {os.strerror(ctypes.get_errno())}")
        self._attributes = ATTRIBUTES.pack(
            *(3600, 0, 0, 1, size, size // 512, 0, 0, 0, 0, 0, 0, stat.S_IFREG | 0o600, 1, 0, 0, 0, PIECE, 0)
        )

    def answer(self) -> bool:
        """One request. Whether there may be more, the file being mounted yet."""
        try:
            request = os.read(self.kernel, MAX_WRITE + PIECE)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.EINTR):  # it was taken back
                return True
            if error.errno == errno.ENODEV:
                return False
            raise
        _, operation, unique, *_ = REQUEST.unpack_from(request)
        if operation not in UNANSWERED:
            body = self._do(operation, memoryview(request)[REQUEST.size :])
            status, body = (-errno.ENOSYS, b"") if body is None else (0, body)
            with suppress(FileNotFoundError):  # nobody waits for it any more
                os.writev(self.kernel, [REPLY.pack(REPLY.size + len(body), status, unique), body])
        return True

    def _do(self, operation: int, body: memoryview) -> bytes | None:
        """The answer; None where the kernel is to do without."""
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
            return self._content[offset : offset + size]
        if operation == WRITE:
            _, offset, size, *_ = TRANSFER.unpack_from(body)
            content = body[TRANSFER.size : TRANSFER.size + size]
            self._content[offset : offset + size] = content
            os.write(self._data, content)
            self._note(offset, size)
            return WRITTEN.pack(size, 0)
        if operation == FSYNC:
            self._note(0, 0)
            return b""
        return b"" if operation in (FLUSH, RELEASE, DESTROY) else None

    def _note(self, offset: int, size: int) -> None:
        os.write(self._events, EVENT.pack(self._number, offset, size))


def _serve(events: Path, data: Path, *paths: Path) -> None:
    """Until all files are unmounted, or nobody is at the other end of standard input."""
    count = len(paths) // 2
    log = os.open(events, os.O_WRONLY | os.O_APPEND), os.open(data, os.O_WRONLY | os.O_APPEND)
    served = {}
    poll = select.poll()
    poll.register(0, select.POLLIN)
    for number, (base, place) in enumerate(zip(paths[:count], paths[count:], strict=True)):
        disk = _Served(number, base, place, log)
        served[disk.kernel] = disk
        poll.register(disk.kernel, select.POLLIN)
    print("mounted", flush=True)
    while served:
        for descriptor, _ in poll.poll():
            if descriptor == 0:
                return
            if not served[descriptor].answer():
                poll.unregister(descriptor)
                del served[descriptor]


if __name__ == "__main__":
    _serve(*map(Path, sys.argv[1:]))
