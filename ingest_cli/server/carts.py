"""Carts: which stored files a user wants as one tar, and under which names. Each is a record in the spool."""

import hashlib
import json
import threading
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol
from uuid import UUID

from rich.filesize import decimal
from starlette.exceptions import HTTPException

from ..bundle.bounds import require_bounded
from ..bundle.listed import MAX_PATH_BYTES
from ..bundle.metadata import MAX_ID
from ..disk import durable_write, explained, free_bytes
from ..errors import MetadataError, SourceError
from ..jobs.spool import NoRoom
from ..services.base import StoredFile
from ..text import counted, quoted
from .admission import BUSY_SECONDS
from .authentication import Refusal

FOLDER = "carts"
MAX_CARTS = 1000
MAX_FILES = 100_000
MAX_BODY_BYTES = 64 << 20
# All records together.
MAX_BYTES = 1 << 30
LIFETIME = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Wanted:
    """A file that a client wants under the name ``path``, and what it takes its hash to be."""

    file_id: int
    path: str
    hashtype: str
    hashsum: str

    def require_same(self, file: StoredFile) -> None:
        """Raise HTTPException where the file is recorded with another hash."""
        hashsum = self.hashsum.strip().lower().removeprefix(f"{self.hashtype.lower()}:")
        if (self.hashtype.lower(), hashsum) != (file.hashtype, file.hashsum):
            raise _wrong(
                f"file {self.file_id} is recorded with {file.hashtype} {file.hashsum},"
                f" not {quoted(self.hashtype)} {quoted(self.hashsum)}"
            )


def read_wanted(raw: bytes) -> list[Wanted]:
    """The files that the body of a request asks for. Raises HTTPException where it is not such a body."""
    try:
        require_bounded(raw)
        body = json.loads(raw)
    except MetadataError:
        raise _wrong("the body has too many values, or is nested too deeply") from None
    except ValueError:
        raise _wrong("the body is not JSON") from None
    listed = body.get("fileids") if isinstance(body, dict) else None
    if not isinstance(listed, list):
        raise _wrong("the body must be an object with a list of fileids")
    if len(listed) > MAX_FILES:
        raise HTTPException(413, f"a cart may have {counted(MAX_FILES, 'file')}, not {len(listed):,}")
    wanted = [_wanted(number, entry) for number, entry in enumerate(listed)]
    _require_distinct([entry.path for entry in wanted])
    return wanted


def _wanted(number: int, entry: Any) -> Wanted:
    if not isinstance(entry, dict):
        raise _wrong(f"entry {number} is not an object")
    file_id, path = entry.get("id"), entry.get("path")
    if isinstance(file_id, str) and file_id.isascii() and file_id.isdigit() and len(file_id) < 20:
        file_id = int(file_id)
    if not isinstance(file_id, int) or isinstance(file_id, bool) or not 0 <= file_id <= MAX_ID:
        raise _wrong(f"entry {number}: the id {quoted(file_id)} is not the number of a file")
    hashtype, hashsum = entry.get("hashtype"), entry.get("hashsum")
    if not isinstance(hashtype, str) or not isinstance(hashsum, str):
        raise _wrong(f"entry {number}: the hashtype {quoted(hashtype)} or the hashsum {quoted(hashsum)} is not text")
    return Wanted(file_id, _path(number, path), hashtype, hashsum)


def _path(number: int, path: Any) -> str:
    """The name in the tar. Clients put a "/" after a folder that is empty."""
    parts = [part for part in path.split("/") if part not in ("", ".")] if isinstance(path, str) else []
    clean = "/".join(parts)
    is_text = clean.isprintable() or not any(0xD800 <= ord(char) <= 0xDFFF or char == "\0" for char in clean)
    if not parts or ".." in parts or not is_text or len(clean.encode()) > MAX_PATH_BYTES:
        raise _wrong(f"entry {number}: {quoted(path)} is not the path of a file in a tar")
    return clean


def _require_distinct(paths: list[str]) -> None:
    """Raise HTTPException where two files have one place, or one lies below the other."""
    seen = set(paths)
    if len(seen) < len(paths):
        ((repeated, _),) = Counter(paths).most_common(1)
        raise _wrong(f"{quoted(repeated)} is the path of two files")
    for path in paths:
        folder = path.rpartition("/")[0]
        while folder:
            if folder in seen:
                raise _wrong(f"{quoted(folder)} is both a file and a folder")
            folder = folder.rpartition("/")[0]


def _wrong(message: str) -> HTTPException:
    return HTTPException(400, message)


@dataclass(frozen=True, slots=True)
class Cart:
    """The cart ``name``, of ``user``: files, each after its path. ``created`` is in seconds since 1970."""

    name: str
    user: str
    created: float
    files: list[tuple[str, StoredFile]]


class Carts(Protocol):
    """The carts of a site. Each method blocks. What one user calls a cart is no matter of another's. A cart that is
    LIFETIME old is gone."""

    def save(self, cart: Cart) -> None:
        """Save a cart, durably, in place of one that the user had under this name.

        Raises Refusal where there are too many, half of MAX_CARTS of one user; NoRoom, and SourceError.
        """

    def find(self, name: UUID, user: str) -> Cart | None:
        """The user's cart of this name; None where there is none."""

    def remove(self, cart: Cart) -> None:
        """Remove a cart."""

    def sweep(self) -> None:
        """Remove the carts that are too old."""


class FolderCarts:
    """The carts in the spool folder ``spool``, whose disk keeps ``reserve`` bytes free. Servers may share it."""

    def __init__(self, spool: Path, reserve: int) -> None:
        self._folder, self._reserve = spool / FOLDER, reserve
        self._lock = threading.Lock()

    def save(self, cart: Cart) -> None:
        """Write its record."""
        record = record_of(cart)
        with self._lock:
            self.sweep()
            path = self._path(cart.name, cart.user)
            self._require_place(path, len(record))
            try:
                self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
                if free_bytes(self._folder) - len(record) < self._reserve:
                    raise NoRoom(f"no room for a cart of {decimal(len(record))} in {self._folder}")
                with durable_write(path, replace=True) as file:
                    file.write(record)
            except OSError as error:
                raise explained(error, f"cannot write into {self._folder}", SourceError, self._folder) from error

    def find(self, name: UUID, user: str) -> Cart | None:
        """The user's cart of this name; None where there is none."""
        path = self._path(str(name), user)
        try:
            if time.time() - path.stat().st_mtime > LIFETIME.total_seconds():
                return None
            return cart_of(str(name), user, path.read_bytes())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise explained(error, f"cannot read {path}", SourceError, path) from error

    def remove(self, cart: Cart) -> None:
        """Remove a cart."""
        self._path(cart.name, cart.user).unlink(missing_ok=True)

    def sweep(self) -> None:
        """Remove the carts that are too old."""
        for path in self._folder.glob("*"):
            with suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > LIFETIME.total_seconds():
                    path.unlink()

    def _require_place(self, place: Path, length: int) -> None:
        """Raise Refusal where there are too many carts beside the one at ``place``, or too many of this user's."""
        sizes = {}
        for path in self._folder.glob("*.json"):
            with suppress(FileNotFoundError):
                sizes[path] = path.stat().st_size
        sizes.pop(place, None)
        own = [size for path, size in sizes.items() if _user_of(path) == _user_of(place)]
        require_few((len(own), sum(own)), (len(sizes), sum(sizes.values())), length)

    def _path(self, name: str, user: str) -> Path:
        return self._folder / f"{name}.{hashlib.sha256(user.encode()).hexdigest()[:32]}.json"


def require_few(own: tuple[int, int], of_all: tuple[int, int], length: int) -> None:
    """Raise Refusal where another cart, of so many bytes, is too many beside a user's own and those of all; of each it
    is given how many there are, and of how many bytes."""
    for (count, size), share in ((own, 2), (of_all, 1)):
        if count >= MAX_CARTS // share or size + length > MAX_BYTES // share:
            kept = counted(of_all[0], "cart is", "carts are")
            raise Refusal(503, f"{kept} kept: delete one, or try again later", {"Retry-After": str(BUSY_SECONDS)})


def record_of(cart: Cart) -> bytes:
    """A cart, as it is kept."""
    files = [{**asdict(file), "path": path} for path, file in cart.files]
    return json.dumps({"created": cart.created, "files": files}).encode()


def cart_of(name: str, user: str, record: bytes) -> Cart | None:
    """The cart of a record; None where that is not a whole one."""
    try:
        found = json.loads(record)
        return Cart(name, user, found["created"], list(_files(found["files"])))
    except (ValueError, KeyError, TypeError):
        return None


def _user_of(path: Path) -> str:
    return path.name.split(".")[1]


def _files(records: Iterable[dict[str, Any]]) -> Iterable[tuple[str, StoredFile]]:
    for record in records:
        path = record.pop("path")
        yield path, StoredFile(**record)
