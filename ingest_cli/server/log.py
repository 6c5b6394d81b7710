"""The access log, a line per request on standard error. It never shows a body, a query or a secret."""

import json
import sys
import time
from datetime import UTC, datetime
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..text import shortened

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
        seen = {"status": 0, "received": 0}
        begun = time.monotonic()

        async def counted() -> Message:
            message = await receive()
            seen["received"] += len(message.get("body", b""))
            return message

        async def noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                seen["status"] = message["status"]
            await send(message)

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
        }
        # A path may hold line ends, percent-encoded.
        text = json.dumps(line) if self._as_json else " ".join(ascii(value).strip("'") for value in line.values())
        print(text, file=sys.stderr, flush=True)
