"""A server as the released Pacifica Ingest is to a client, and a policy service for clients, on loopback.

They answer as the released ones do, and can be told to misbehave.
"""

import json
import ssl
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import requests

from .loopback import LoopbackServer, QuietHandler

Row = dict[str, Any]
Fault = Callable[["Handler"], bool]
DONE = {"state": "OK", "task": "ingest metadata", "task_percent": "100.00000", "exception": ""}
# What the policy service for clients knows.
USERS = [
    {"_id": 10, "network_id": "dmlb2001", "first_name": "David", "last_name": "Brown"},
    {"_id": 11, "network_id": "grim", "first_name": "Brothers", "last_name": "Grimm"},
]
PROJECTS = [{"_id": "1234a", "title": "Pacifica Development"}, {"_id": "1235", "title": "Pacifica {brackets}"}]
INSTRUMENTS = [
    {"_id": 54, "name_short": "NMR PROBES", "display_name": "Nittany Liquid Probes"},
    {"_id": 104, "name_short": "Nanoscale", "display_name": "Transmogriscope"},
]


class ReleasedIngest(LoopbackServer):
    """Takes bundles by ``POST /upload``. ``states`` are what it answers to ``/get_state``, one after the other."""

    def __init__(self) -> None:
        super().__init__(Handler)
        self.bundles: list[bytes] = []
        self.states: list[Row] = []
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.queries: list[Row] = []
        # Sees every request first.
        self.guard: Fault | None = None

    def speak_tls(self, context: ssl.SSLContext) -> None:
        self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        self.scheme = "https"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is none of ours."""

    def headers_of(self, method: str) -> list[dict[str, str]]:
        return [headers for used, _, headers in self.requests if used == method]


class Handler(QuietHandler):
    server: ReleasedIngest

    def dispatch(self) -> None:
        parts = urlsplit(self.path)
        self.server.requests.append((self.command, parts.path, dict(self.headers)))
        if self.server.guard is not None and self.server.guard(self):
            return
        if (self.command, parts.path) == ("POST", "/upload"):
            self.server.bundles.append(self.body())
            self.answer(200, self.state({"state": "OK", "task": "UPLOADING", "task_percent": "0.00000"}))
        elif (self.command, parts.path) == ("GET", "/get_state") and "job_id" in parse_qs(parts.query):
            states = self.server.states
            self.answer(200, self.state(states.pop(0) if len(states) > 1 else states[0] if states else DONE))
        elif (self.command, parts.path) == ("POST", "/uploader"):
            query = json.loads(self.body())
            self.server.queries.append(query)
            rows = [{key: row[key] for key in query["columns"] if key in row} for row in selected(query)]
            self.answer(200, rows)
        else:
            self.body()
            self.answer(404, {"message": "Not Found", "status": "404 Not Found", "traceback": "", "version": ""})

    do_GET = do_POST = do_OPTIONS = do_HEAD = do_PATCH = do_DELETE = dispatch

    def body(self, most: int | None = None) -> bytes:
        """What the client sends, or only the first of it."""
        length = int(self.headers.get("Content-Length", 0))
        return self.rfile.read(length if most is None else min(length, most))

    def answer(self, status: int, content: Any, headers: dict[str, str] | None = None) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def ask(self, url: str, body: bytes) -> requests.Response:
        """What another server answers."""
        own = {name: value for name, value in self.headers.items() if name not in ("Host", "Content-Length")}
        return requests.request(self.command, f"{url}{self.path}", data=body, headers=own, timeout=60)

    def pass_on(self, url: str, body: bytes) -> None:
        """Answer as another server does."""
        answer = self.ask(url, body)
        self.send_response(answer.status_code)
        for name, value in {**answer.headers, "Content-Length": str(len(answer.content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer.content)

    def drop(self) -> None:
        """Close the connection without an answer."""
        self.close_connection = True

    @staticmethod
    def state(changes: Row) -> Row:
        times = {"created": "2026-11-23 23:18:38.493545", "updated": "2026-11-23 23:18:39.247907"}
        return {"job_id": 7, "complete": False, **times, "exception": "", **changes}


def selected(query: Row) -> list[Row]:
    """The rows that the released policy service answers for a user who may see all of this site."""
    where = query["where"]
    if query["from"] == "users":
        if "network_id" in where:
            return [row for row in USERS if row["network_id"] == where["network_id"]]
        return USERS if "project_id" in where else [row for row in USERS if row["_id"] == int(query["user"])]
    rows: list[Row] = {"projects": PROJECTS, "instruments": INSTRUMENTS}[query["from"]]  # type: ignore[assignment]
    return [row for row in rows if "_id" not in where or row["_id"] == where["_id"]]
