"""The access log, a line per request on standard error. It never shows a body, a query or a secret."""

import sys
import time
from datetime import UTC, datetime
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..text import as_json, one_line, shortened

LONGEST_PATH = 500


class AccessLog:
    """Wraps an application; ``as_json`` writes objects in place of text."""

    def __init__(self, app: ASGIApp, *, as_json: bool) -> None:
        self._app, self._as_json = app, as_json

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and write its line when it is answered."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        seen = {"status": 0, "received": 0, "sent": 0}
        begun = time.monotonic()

        async def counted() -> Message:
            message = await receive()
            seen["received"] += len(message.get("body", b""))
            return message

        async def noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                seen["status"] = message["status"]
            await send(message)
            if scope["method"] != "HEAD":  # whose body is dropped on the way
                seen["sent"] += len(message.get("body", b""))

        try:
            await self._app(scope, counted, noted)
        finally:
            self._write(scope, seen, time.monotonic() - begun)

    def _write(self, scope: Scope, seen: dict[str, int], seconds: float) -> None:
        line: dict[str, Any] = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "client": scope["client"][0] if scope["client"] else "",
            "user": scope.get("state", {}).get("user", ""),
            "method": scope["method"],
            "path": shortened(scope["path"], LONGEST_PATH),
            "status": seen["status"],
            "received": seen["received"],
            "seconds": round(seconds, 4),
            "sent": seen["sent"],
        }
        print(as_json(line) if self._as_json else _fields(line), file=sys.stderr, flush=True)


def _fields(line: dict[str, Any]) -> str:
    """The values with blanks between them and none in them; a path may hold anything, percent-encoded."""
    return " ".join(one_line(value).replace(" ", "\\x20") or "-" for value in line.values())
