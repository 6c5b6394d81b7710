"""Resumable uploads, a request at a time, as a client of tus makes them."""

import fcntl
import hashlib
import socket
from base64 import b64encode
from pathlib import Path
from urllib.parse import urlsplit

import requests

from .serving import PATIENCE, Server
from .site import Site
from .waiting import until

V = {"Tus-Resumable": "1.0.0"}
PIECE = {**V, "Content-Type": "application/offset+octet-stream"}
PARTIAL = {"Upload-Concat": "partial"}


def create(server: Server, length: int, headers: dict[str, str] | None = None) -> str:
    headers = {**V, "Upload-Length": str(length), **(headers or {})}
    answer = requests.post(f"{server.url}/files", headers=headers, timeout=PATIENCE)
    assert answer.status_code == 201, answer.text
    return server.url + answer.headers["Location"]


def head(url: str) -> requests.Response:
    answer = requests.head(url, headers=V, timeout=PATIENCE)
    assert answer.headers["Cache-Control"] == "no-store"
    return answer


def offset(url: str) -> int:
    answer = head(url)
    assert answer.status_code == 200
    return int(answer.headers["Upload-Offset"])


def append(url: str, at: int, piece: bytes, headers: dict[str, str] | None = None) -> requests.Response:
    headers = {**PIECE, "Upload-Offset": str(at), **(headers or {})}
    return requests.patch(url, data=piece, headers=headers, timeout=PATIENCE)


def join(server: Server, urls: list[str], headers: dict[str, str] | None = None) -> requests.Response:
    """Ask for the final upload of these parts."""
    headers = {**V, "Upload-Concat": f"final;{' '.join(urls)}", **(headers or {})}
    return requests.post(f"{server.url}/files", headers=headers, timeout=PATIENCE)


def checksum(content: bytes, algorithm: str = "sha1") -> dict[str, str]:
    digest = hashlib.new(algorithm, content).digest()
    return {"Upload-Checksum": f"{algorithm} {b64encode(digest).decode()}"}


def file_of(site: Site, url: str) -> Path:
    """Where the spool has what arrived of an upload."""
    return site.settings.spool / f"resumable-{url.rpartition('/')[2]}.tar"


def begin(
    site: Site,
    connection: socket.socket,
    url: str,
    length: int,
    content: bytes = b"",
    more: dict[str, str] | None = None,
) -> None:
    """Announce ``length`` bytes for an upload, send the first, and wait until the server has the upload open."""
    headers = {**PIECE, "Host": "localhost", "Content-Length": str(length), "Upload-Offset": "0", **(more or {})}
    lines = [f"PATCH {urlsplit(url).path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    connection.sendall("\r\n".join([*lines, "", ""]).encode() + content)
    until(lambda: is_locked(file_of(site, url)))


def is_locked(path: Path) -> bool:
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False
