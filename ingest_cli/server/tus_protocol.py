"""The headers of tus 1.0.0 (tus.io): what its requests say in them, and what every answer does."""

import hashlib
import re
from base64 import b64decode
from binascii import Error as BinasciiError
from dataclasses import dataclass
from email.utils import formatdate

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..text import number_of, quoted
from .authentication import Refusal
from .uploads import FINAL, PARTIAL, Upload, part_names

VERSION = "1.0.0"
EXTENSIONS = "creation,creation-with-upload,creation-defer-length,checksum,concatenation,expiration,termination"
ALGORITHMS = ("sha1", "sha256", "md5")
PIECE_TYPE = "application/offset+octet-stream"
MISMATCH = 460
LONGEST_METADATA = 8192
# A key, with a value in Base64 that may be missing.
PAIR = re.compile("[!-~]+( [A-Za-z0-9+/]*={0,2})?")


class TusHeaders:
    """Wraps the application: clients of tus may name their method in a header, and read the version in every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""

        async def noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["Tus-Resumable"], headers["Cache-Control"] = VERSION, "no-store"
            await send(message)

        if scope["type"] != "http" or not f"{scope['path']}/".startswith("/files/"):
            await self._app(scope, receive, send)
            return
        method = Headers(scope=scope).get("x-http-method-override", scope["method"]).upper()
        # Another one: the protocol below goes by the real method when it sends the answer.
        await self._app({**scope, "method": method}, receive, noted)


@dataclass(frozen=True, slots=True)
class Checksum:
    """What the bytes of one request must hash to."""

    algorithm: str
    digest: bytes


def require_version(request: Request) -> None:
    """Raise Refusal where the client speaks another version of the protocol."""
    if request.headers.get("tus-resumable") != VERSION:
        raise Refusal(412, f"the header Tus-Resumable must be {VERSION}", {"Tus-Version": VERSION})


def number_in(request: Request, header: str) -> int:
    """The number of bytes in a header. Raises Refusal where it is none."""
    number = number_of(request.headers.get(header, ""))
    if number is None:
        raise Refusal(400, f"the header {header} must be a number of bytes")
    return number


def new_length(request: Request) -> int | None:
    """How long a new upload is to be; None where the client will say so later. Raises Refusal."""
    deferred = request.headers.get("Upload-Defer-Length")
    if deferred is None:
        return number_in(request, "Upload-Length")
    if deferred != "1" or "Upload-Length" in request.headers:
        raise Refusal(400, "the header Upload-Defer-Length must be 1, and come without an Upload-Length")
    return None


def metadata_in(request: Request) -> str:
    """What the client wants to be told again of its upload. Raises Refusal where it is malformed."""
    value = request.headers.get("Upload-Metadata", "").strip()
    if len(value) > LONGEST_METADATA:
        raise Refusal(400, f"the header Upload-Metadata is longer than {LONGEST_METADATA:,} characters")
    if value and not all(PAIR.fullmatch(pair.strip()) for pair in value.split(",")):
        raise Refusal(400, "the header Upload-Metadata must be keys, each with a value in Base64, between commas")
    return value


def concat_in(request: Request) -> str:
    """Whether the upload is a part of another, or made of which; empty where neither. Raises Refusal."""
    value = request.headers.get("Upload-Concat", "")
    if value in ("", PARTIAL):
        return value
    names = part_names(value)
    if not names or "" in names or not value.isascii():
        raise Refusal(400, f"the header Upload-Concat must be {PARTIAL}, or {FINAL} with the URLs of uploads after it")
    return value


def checksum_in(request: Request) -> Checksum | None:
    """What the body must hash to, where the client says so. Raises Refusal."""
    value = request.headers.get("Upload-Checksum")
    if value is None:
        return None
    algorithm, _, encoded = value.partition(" ")
    if algorithm not in ALGORITHMS:
        raise Refusal(
            400, f"the algorithm of a checksum must be one of {', '.join(ALGORITHMS)}, not {quoted(algorithm)}"
        )
    try:
        digest = b64decode(encoded, validate=True)
    except (BinasciiError, ValueError):
        digest = b""
    if len(digest) != hashlib.new(algorithm, usedforsecurity=False).digest_size:
        raise Refusal(400, f"the header Upload-Checksum must have a digest of {algorithm} in Base64")
    return Checksum(algorithm, digest)


def description_of(upload: Upload) -> dict[str, str]:
    """What the client has said of an upload, as it is told again."""
    length = {"Upload-Defer-Length": "1"} if upload.length is None else {"Upload-Length": str(upload.length)}
    said = {"Upload-Metadata": upload.metadata, "Upload-Concat": upload.concat}
    return {**length, **{name: value for name, value in said.items() if value}}


def progress_of(upload: Upload, offset: int | None, expiry: float | None) -> dict[str, str]:
    """How much has arrived of an upload that is no job, and when it will be removed.

    How much of a final one is joined is nobody's business: its client has nothing to add.
    """
    arrived = {} if upload.parts else {"Upload-Offset": str(upload.length or 0 if offset is None else offset)}
    return arrived if expiry is None else {**arrived, "Upload-Expires": formatdate(expiry, usegmt=True)}
