"""The least that a Pacifica site can be: an archive that writes what it is sent, and services that find all well.

python -m tests.benchmarks.sink FOLDER prints the port at which it answers, on loopback.
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from .cases import MIB

FOLDER = Path(sys.argv[-1])


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    next_id = 1

    def do_PUT(self) -> None:
        if self.path == "/ingest":
            self.do_POST()
            return
        left = length = int(self.headers["Content-Length"])
        piece = memoryview(bytearray(MIB))
        with self._file.open("wb", buffering=0) as file:
            while left and (read := self.rfile.readinto1(piece[: min(left, MIB)])):
                file.write(piece[:read])
                left -= read
        self._answer(201, {"message": "File added to archive", "total_bytes": length})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(200, {"status": "success"})

    def do_GET(self) -> None:
        query = parse_qs(urlsplit(self.path).query)
        if "range" not in query:
            self._answer(200, [])
            return
        first = Handler.next_id
        Handler.next_id += int(query["range"][0])
        self._answer(200, {"startIndex": first, "endIndex": Handler.next_id - 1})

    def do_HEAD(self) -> None:
        if not self._file.exists():
            self._answer(500, {})
            return
        self.send_response(204)
        self.send_header("X-Content-Length", str(self._file.stat().st_size))
        self.send_header("X-Pacifica-File", str(self._file))
        self.end_headers()

    def do_DELETE(self) -> None:
        self._file.unlink(missing_ok=True)
        self._answer(200, {})

    @property
    def _file(self) -> Path:
        return FOLDER / str(int(self.path.strip("/")))

    def _answer(self, status: int, content: object) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


if __name__ == "__main__":
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        print(server.server_port, flush=True)
        server.serve_forever()
