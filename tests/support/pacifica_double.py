"""A small Pacifica site on loopback that can be told to misbehave; its good manners are those of the released services.

It stands in for the site, never for code of ours: what it cannot show is shown by the real services.
"""

import json
import re
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from .loopback import LoopbackServer, QuietHandler

# Seconds that a file waits for others that are to come at the same time.
PATIENCE = 30.0

Fault = Callable[["Handler"], bool]
Row = dict[str, Any]
# What the fixtures of the released metadata service know.
KNOWN = {"submitter": 10, "project": "1234a", "instrument": 54}


class PacificaSite(LoopbackServer):
    """All four services at one address. ``faults`` maps (method, number of the request of that method) to a fault."""

    def __init__(self) -> None:
        super().__init__(Handler)
        self.files: dict[int, bytes] = {}
        self.transactions: dict[int, list[dict[str, Any]]] = {}
        # When each was recorded.
        self.created: dict[int, str] = {}
        self.requests: list[tuple[str, str]] = []
        self.faults: dict[tuple[str, int], Fault] = {}
        # Sees every request first.
        self.guard: Fault | None = None
        self.connections = 0
        self.next_id = {"file": 1, "upload_job": 1}
        self.users: list[str | None] = []
        self.authorizations: list[tuple[str, str | None]] = []
        # What the archive does with a file in place of storing it: answers 201 with a shorter length, or stores less.
        self.stores_nothing: set[int] = set()
        self.stores_less: set[int] = set()
        # So many requests to come find the metadata service's database away.
        self.ill_for = 0
        # What the policy service lets pass, but the metadata service does not know.
        self.unknown_projects: set[str] = set()
        # Keys and values, each kept once, under the number of its place.
        self.words: list[str] = []
        # Where moved files go; without it, into memory.
        self.folder: Path | None = None
        # What this site's machine calls "/", where its paths are not ours.
        self.root: Path | None = None
        self.lock = threading.Lock()
        self.at_work = self.most_at_work = 0
        self.seconds_a_file = 0.0
        self._gathered, self._gathering, self._patience = threading.Condition(self.lock), 0, PATIENCE
        self.context: ssl.SSLContext | None = None

    def speak_tls(self, context: ssl.SSLContext) -> None:
        # The handshake is the handler's: a client that is slow or turns away must not stop the others.
        self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        self.context, self.scheme = context, "https"

    def verify_request(self, request: Any, client_address: Any) -> bool:
        self.connections += 1
        return True

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], OSError):  # a client that hangs up, or fails its handshake
            super().handle_error(request, client_address)

    def environment(self) -> dict[str, str]:
        return {
            "UNIQUEID_URL": self.url,
            "POLICY_INGEST_URL": f"{self.url}/policy",
            "ARCHIVEINTERFACE_URL": self.url,
            "METADATA_INGEST_URL": f"{self.url}/ingest",
        }

    def rows(self, table: str, transaction_id: int | None = None) -> list[Row]:
        """The records of a table, of one transaction or of all."""
        found = (
            self.transactions.items() if transaction_id is None else [(0, self.transactions.get(transaction_id, []))]
        )
        return [record for _, records in found for record in records if record["destinationTable"] == table]

    def pair(self, record: Row) -> Row:
        """A key and its value, by the numbers that those have."""
        words = {name: str(record[name]) for name in ("key", "value")}
        with self.lock:
            for word in words.values():
                if word not in self.words:
                    self.words.append(word)
        return {name: self.words.index(word) for name, word in words.items()}

    def gather(self, count: int, patience: float = PATIENCE) -> None:
        """Keep every file waiting until ``count`` of them have been at work at once: what is slow comes too.

        Where no other comes, a file is stored all the same when its ``patience`` is at an end.
        """
        with self.lock:
            self.most_at_work, self._gathering, self._patience = self.at_work, count, patience

    @contextmanager
    def working(self) -> Iterator[None]:
        """A file is being stored."""
        with self.lock:
            self.at_work += 1
            self.most_at_work = max(self.most_at_work, self.at_work)
            self._gathered.notify_all()
            self._gathered.wait_for(lambda: self.most_at_work >= self._gathering, self._patience)
        try:
            yield
        finally:
            with self.lock:
                self.at_work -= 1

    def fail(self, method: str, number: int, fault: Fault) -> None:
        """The ``number``-th request (from 1) of ``method`` goes to ``fault``, which says whether that was all."""
        self.faults[method, number] = fault


def metadata_is_ill(handler: "Handler") -> bool:
    site, path = handler.server, urlsplit(handler.path).path
    if path not in ("/ingest", "/transactions", "/files") or site.ill_for == 0:
        return False
    site.ill_for -= 1
    handler.body()
    handler.answer(500, {"message": "Internal Server Error"})
    return True


class Handler(QuietHandler):
    server: PacificaSite

    def answer(self, status: int, content: Any, headers: dict[str, str] | None = None) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD" and status != 204:
            self.wfile.write(body)

    def drop(self) -> None:
        self.close_connection = True
        self.connection.close()

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def dispatch(self) -> None:
        with self.server.lock:
            self.server.requests.append((self.command, self.path))
            self.server.authorizations.append((self.path, self.headers["Authorization"]))
            number = sum(method == self.command for method, _ in self.server.requests)
        faults = (self.server.guard, self.server.faults.get((self.command, number)), metadata_is_ill)
        if not any(fault is not None and fault(self) for fault in faults):
            getattr(self, f"serve_{self.command.lower()}")()

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = do_PATCH = dispatch

    def serve_get(self) -> None:
        parts = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(parts.query, keep_blank_values=True).items()}
        site = self.server
        if parts.path == "/getid":
            self.answer(200, self.ids(query["mode"], int(query["range"])))
        elif parts.path in METADATA:
            rows = METADATA[parts.path](site, query)
            length = int(query.get("items_per_page", len(rows)))
            first = (int(query.get("page_number", 1)) - 1) * length
            self.answer(200, rows[first : first + length])
        elif re.fullmatch(r"/\d+", parts.path):
            found = self.stored()
            self.answer(500, {}) if found is None else self.answer(200, found)
        else:
            self.answer(200, {"message": "Pacifica Archive Interface Up and Running"})

    def ids(self, mode: str, count: int) -> Row:
        with self.server.lock:
            first = self.server.next_id[mode]
            if count < 1:
                return {"startIndex": -1, "endIndex": -3}
            self.server.next_id[mode] += count
        return {"startIndex": first, "endIndex": first + count - 1}

    def serve_post(self) -> None:
        records = json.loads(self.body())
        self.server.users.append(self.headers.get("X-Http-Authed-User"))
        given = {record["destinationTable"]: str(record.get("value")) for record in records}
        wrong = [name for name, value in KNOWN.items() if given.get(f"Transactions.{name}") != str(value)]
        if wrong:
            self.answer(412, {"message": f"Precondition Failed: Invalid values for {', '.join(wrong)}"})
        else:
            self.answer(200, {"status": "success"})

    def serve_put(self) -> None:
        body = self.body()
        if self.path == "/ingest":
            self.record(json.loads(body))
            return
        # The released archive reports the length that was announced, whatever came; a body that is cut short it keeps.
        file_id, total_bytes = self.file_id(), int(self.headers.get("Content-Length", 0))
        with self.server.working():
            time.sleep(self.server.seconds_a_file)
            if file_id in self.server.stores_nothing:
                total_bytes -= 1
            else:
                self.server.files[file_id] = body[:-1] if file_id in self.server.stores_less else body
        self.answer(201, {"message": "File added to archive", "total_bytes": total_bytes})

    def record(self, records: list[dict[str, Any]]) -> None:
        (number,) = [record["value"] for record in records if record["destinationTable"] == "Transactions._id"]
        listed = {record["_id"] for record in records if record["destinationTable"] == "Files"}
        held = sorted(listed & {record["_id"] for record in self.server.rows("Files")})
        if number in self.server.transactions or held:
            twice = number if number in self.server.transactions else held[0]
            self.answer(400, {"message": f"Could not insert records [ID: {twice}] due to duplicated ID values"})
            return
        if any(str(record.get("value")) in self.server.unknown_projects for record in records):
            self.answer(500, {"message": "Internal Server Error"})
            return
        self.server.transactions[number] = records
        for record in records:
            if "KeyValue" in record["destinationTable"]:
                self.server.pair(record)
        self.server.created[number] = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime())
        self.answer(200, {"status": "success"})

    def serve_patch(self) -> None:
        source = Path(json.loads(self.body())["path"])
        if self.server.root is not None:
            source = self.server.root / source.relative_to("/")
        place = self.place()
        if not source.exists():
            self.answer(500, {"message": "Can't move posix file"})
            return
        if place is not None:
            source.rename(place)
        else:
            self.server.files[self.file_id()] = source.read_bytes()
            source.unlink()
        self.answer(200, {"message": "File Moved Successfully"})

    def serve_head(self) -> None:
        found, place = self.stored(), self.place()
        if found is None:
            self.answer(500, {})
        else:
            where = {"X-Pacifica-File": str(place)} if place is not None else {}
            self.answer(204, b"", {"X-Content-Length": str(len(found)), **where})

    def place(self) -> Path | None:
        return self.server.folder / str(self.file_id()) if self.server.folder else None

    def stored(self) -> bytes | None:
        place = self.place()
        if place is not None and place.exists():
            return place.read_bytes()
        return self.server.files.get(self.file_id())

    def serve_delete(self) -> None:
        place = self.place()
        if place is not None and place.exists():
            place.unlink()
        elif self.server.files.pop(self.file_id(), None) is None:
            self.answer(500, {"message": "The server encountered an unexpected condition"})
            return
        self.answer(200, {"message": "File deleted"})

    def file_id(self) -> int:
        found = re.fullmatch(r"/(\d+)", self.path)
        assert found is not None, self.path
        return int(found[1])


def _transactions(site: PacificaSite, query: dict[str, str]) -> list[Row]:
    number = int(query["_id"])
    return [{"_id": number}] if number in site.transactions else []


def _transsip(site: PacificaSite, query: dict[str, str]) -> list[Row]:
    wanted = {name: query[name] for name in KNOWN if name in query}
    rows = [_sip(site, number) for number in sorted(site.transactions) if query.get("_id", str(number)) == str(number)]
    return [
        row
        for row in rows
        if all(str(row[name]) == value for name, value in wanted.items())
        and ("created" not in query or row["created"] >= query["created"].split(".")[0])
    ]


def _sip(site: PacificaSite, number: int) -> Row:
    values = {record["destinationTable"]: record.get("value") for record in site.transactions[number]}
    return {
        "_id": number,
        **{name: values[f"Transactions.{name}"] for name in KNOWN},
        "project": str(values["Transactions.project"]),
        "created": site.created[number],
    }


def _files(site: PacificaSite, query: dict[str, str]) -> list[Row]:
    number = query.get("transaction_id")
    files = site.rows("Files", None if number is None else int(number))
    owners = {row["_id"]: number for number in site.transactions for row in site.rows("Files", number)}
    described = {record["file_id"] for record in site.rows("FileKeyValue")}
    return [
        {
            **record,
            "transaction": owners[record["_id"]],
            "ctime": _time(record["ctime"]),
            "mtime": _time(record["mtime"]),
            "metadata": [{}] if record["_id"] in described else [],
        }
        for record in sorted(files, key=lambda record: int(record["_id"]))
        if all(query.get(key, str(record[key])) == str(record[key]) for key in ("_id", "hashtype", "hashsum"))
        and _is_named(str(record["name"]), query)
    ]


def _is_named(name: str, query: dict[str, str]) -> bool:
    if query.get("name_operator") != "like":
        return query.get("name", name) == name
    pieces = re.findall(r"\\.|[%_]|[^%_\\]+", query["name"], re.DOTALL)
    signs = {"%": ".*", "_": "."}
    pattern = "".join(signs.get(piece) or re.escape(piece.removeprefix("\\")) for piece in pieces)
    return re.fullmatch(pattern, name, re.DOTALL) is not None


def _time(value: str | int) -> str:
    return value if isinstance(value, str) else time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(value))


def _pairs(site: PacificaSite, table: str, of: str, number: int | None) -> list[Row]:
    """The pairs of keys and values by their numbers, of one transaction or file, or of all."""
    owned = [(owner, record) for owner in site.transactions for record in site.rows(table, owner)]
    return [
        {of: record.get("file_id", owner), **site.pair(record)}
        for owner, record in owned
        if number in (None, record.get("file_id", owner))
    ]


def _linked(table: str, of: str) -> Callable[[PacificaSite, dict[str, str]], list[Row]]:
    def rows(site: PacificaSite, query: dict[str, str]) -> list[Row]:
        found = _pairs(site, table, of, int(query[of]) if of in query else None)
        return [row for row in found if all(query.get(key, str(row[key])) == str(row[key]) for key in ("key", "value"))]

    return rows


def _words(name: str) -> Callable[[PacificaSite, dict[str, str]], list[Row]]:
    def rows(site: PacificaSite, query: dict[str, str]) -> list[Row]:
        if "_id" in query:
            return [{"_id": int(query["_id"]), name: site.words[int(query["_id"])]}]
        return [{"_id": number, name: word} for number, word in enumerate(site.words) if word == query[name]]

    return rows


METADATA: dict[str, Callable[[PacificaSite, dict[str, str]], list[Row]]] = {
    "/transactions": _transactions,
    "/transsip": _transsip,
    "/files": _files,
    "/trans_key_value": _linked("TransactionKeyValue", "transaction"),
    "/file_key_value": _linked("FileKeyValue", "file"),
    "/keys": _words("key"),
    "/values": _words("value"),
}
