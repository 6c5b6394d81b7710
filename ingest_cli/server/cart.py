"""The protocol of Pacifica's cart server: a client names files, waits until they are ready, and gets one tar of them.

Nothing is copied: files are read from the archive as they are sent. A cart is staging until it was seen that the
archive holds them all.
"""

import asyncio
import time
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ..errors import ArchiveError, IngestError
from ..retrieval.layout import Layout, Member
from ..retrieval.stored import mtime_of
from ..services.base import Archive, StoredFile
from ..text import counted, one_line, quoted
from .access import Access
from .admission import Receptions
from .authentication import Refusal
from .carts import MAX_BODY_BYTES, MAX_CARTS, Cart, Carts, Wanted, read_wanted
from .downloads import ANY_TYPE, attachment
from .folder_spool import FolderSpool
from .holdings import Holdings
from .ranges import Version
from .receiving import Limits, receive, spooled
from .streams import SAFE, Download, Streams, log_failure
from .threads import Threads

# How long a client waits for a look at the archive before it is told to ask again.
STAGING_SECONDS = 5.0
CHECKS = 4
LONGEST_NAME = 200
NO_CART = "The cart does not exist or has already been deleted"


class CartRoutes:
    """The resource ``/UUID``: a cart."""

    def __init__(
        self,
        access: Access,
        holdings: Holdings,
        streams: Streams,
        looking: Threads,
        carts: Carts,
        receptions: Receptions,
        limits: Limits,
        disk: Threads,
    ) -> None:
        self._access, self._holdings, self._streams, self._looking = access, holdings, streams, looking
        self._carts, self._receptions, self._disk = carts, receptions, disk
        self._limits = Limits(MAX_BODY_BYTES, limits.reserve)
        self._opening = partial(FolderSpool(holdings.spool).fresh, ".cart", limits.reserve)
        # What is known of many files takes memory: of one cart at a time.
        self._making, self._checking = Threads(1, "new carts"), Threads(CHECKS, "carts")
        self._checks: dict[tuple[str, str], asyncio.Task[str]] = {}

    @property
    def routes(self) -> list[Route]:
        """The routes."""
        return [
            Route("/{cart:uuid}", self.status, methods=["HEAD"]),
            Route("/{cart:uuid}", self.download, methods=["GET"]),
            Route("/{cart:uuid}", self.create, methods=["POST"]),
            Route("/{cart:uuid}", self.delete, methods=["DELETE"]),
        ]

    async def create(self, request: Request) -> Response:
        """Make a cart of the files that the body lists."""
        self._access.require_downloads()
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise HTTPException(415, "a cart must be sent as application/json")
        with self._receptions.admit(request) as reception:
            async with spooled(self._disk, self._opening) as file:
                await receive(request, file, self._limits, reception, self._disk)
                found = await self._making.do(_find, self._holdings, Path(file.source))
        await self._access.require_own(request, {job_id for _, job_id, _ in found})
        for wanted, _, stored in found:
            wanted.require_same(stored)
        files = [(wanted.path, stored) for wanted, _, stored in found]
        cart = Cart(str(request.path_params["cart"]), request.state.user, time.time(), files)
        await self._making.do(self._carts.save, cart)
        self._forget(cart)
        return JSONResponse({"message": "Cart Processing has begun"}, status_code=201)

    async def status(self, request: Request) -> Response:
        """Whether the cart can be downloaded, in two headers that are always there."""
        try:
            cart = await self._find(request)
        except Refusal as error:
            return _status(error.status, "error", error.message)
        except HTTPException as error:
            return _status(error.status_code, "error", f"No cart with uid {request.path_params['cart']} found")
        check = self._check(cart)
        await asyncio.wait([check], timeout=STAGING_SECONDS)
        if not check.done():
            return _status(204, "staging", "")
        try:
            problem = check.result()
        except IngestError as error:
            self._forget(cart)
            log_failure(request, error)
            code, word = (204, "staging") if error.transient else (500, "error")
            return _status(code, word, "the archive cannot be asked: see the server's log")
        if problem:
            self._forget(cart)
            return _status(500, "error", problem)
        return _status(204, "ready", "")

    async def download(self, request: Request) -> Response:
        """The files of the cart as one tar, below a folder that is called as the client wants."""
        cart = await self._find(request)
        created = datetime.fromtimestamp(cart.created, UTC)
        filename = request.query_params.get("filename", f"data_{created:%Y_%m_%d_%H_%M_%S}.tar")
        folder = filename.replace(".tar", "")
        if "/" in filename or not filename.isprintable() or folder in ("", ".", "..") or len(filename) > LONGEST_NAME:
            raise HTTPException(400, f"{quoted(filename)} cannot be the name of a folder in a tar")
        layout = await self._looking.do(_layout, cart, folder)
        version = Version(layout.size, f'"{layout.digest}"')
        headers = {"Content-Type": ANY_TYPE, "Content-Disposition": attachment(filename)}
        read = partial(layout.read, self._holdings.read)
        return self._streams.answer(request, Download(version, headers, read, len(cart.files)))

    async def delete(self, request: Request) -> Response:
        """Remove a cart. Who is downloading it gets it to its end."""
        cart = await self._find(request)
        self._forget(cart)
        await self._looking.do(self._carts.remove, cart)
        return JSONResponse({"message": "Cart Deleted Successfully"}, headers=SAFE)

    async def _find(self, request: Request) -> Cart:
        self._access.require_downloads()
        cart = await self._looking.do(self._carts.find, request.path_params["cart"], request.state.user)
        if cart is None:
            raise HTTPException(404, NO_CART)
        return cart

    def _check(self, cart: Cart) -> "asyncio.Task[str]":
        """The look at the archive that is under way or done: what is missing there; empty where nothing is."""
        key = (cart.name, cart.user)
        if key not in self._checks:
            while len(self._checks) >= MAX_CARTS:
                self._checks.pop(next(iter(self._checks)))
            work = self._checking.do(lambda: _missing(self._holdings.archive, cart))
            self._checks[key] = asyncio.create_task(work)
            # Its client may not come back to hear of it.
            self._checks[key].add_done_callback(lambda check: check.cancelled() or check.exception())
        return self._checks[key]

    def _forget(self, cart: Cart) -> None:
        self._checks.pop((cart.name, cart.user), None)


def _find(holdings: Holdings, body: Path) -> list[tuple[Wanted, int, StoredFile]]:
    """What a body asks for, with the job that it is recorded of, as the catalogue has it. Raises HTTPException."""
    wanted = read_wanted(body.read_bytes())
    found = []
    for entry, file in zip(wanted, holdings.find_files([entry.file_id for entry in wanted]), strict=True):
        if file is None:
            raise HTTPException(404, f"the catalogue has no file {entry.file_id}")
        found.append((entry, *file))
    return found


def _layout(cart: Cart, folder: str) -> Layout:
    return Layout(Member(f"{folder}/{path}", mtime_of(file), file) for path, file in cart.files)


def _missing(archive: Archive, cart: Cart) -> str:
    for path, file in cart.files:
        try:
            size = archive.stat(file.file_id)
        except ArchiveError as error:
            return str(error)
        if size is None:
            return f"file {file.file_id}, {path!r}, is missing from the archive"
        if size != file.size:
            return f"file {file.file_id}, {path!r}, has {counted(size, 'byte')} in the archive instead of {file.size:,}"
    return ""


def _status(status: int, word: str, message: str) -> Response:
    line = one_line(message).encode("ascii", "backslashreplace").decode()
    return Response(status_code=status, headers={**SAFE, "X-Pacifica-Status": word, "X-Pacifica-Message": line})
