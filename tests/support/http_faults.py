"""What a service, or something between, may do to a request: the answer is lost, late, cut short or none of HTTP."""

import time
from collections.abc import Callable

from .pacifica_double import Fault, Handler


def dropped(handler: Handler) -> bool:
    handler.body()
    handler.drop()
    return True


def served_then_dropped(handler: Handler) -> bool:
    """The work is done, but the answer is lost."""
    answer = handler.answer
    handler.answer = lambda *_: None  # type: ignore[method-assign]
    getattr(handler, f"serve_{handler.command.lower()}")()
    handler.answer = answer  # type: ignore[method-assign]
    handler.drop()
    return True


def served_then_answering(status: int) -> Callable[[Handler], bool]:
    """The work is done, but something between answers for the service."""

    def fault(handler: Handler) -> bool:
        answer = handler.answer
        handler.answer = lambda *_: None  # type: ignore[method-assign]
        getattr(handler, f"serve_{handler.command.lower()}")()
        handler.answer = answer  # type: ignore[method-assign]
        handler.answer(status, {})
        return True

    return fault


def answering(status: int, content: object, **headers: str) -> Callable[[Handler], bool]:
    def fault(handler: Handler) -> bool:
        handler.body()
        handler.answer(status, content, headers)
        return True

    return fault


def hanging(handler: Handler) -> bool:
    handler.body()
    time.sleep(0.6)
    handler.drop()
    return True


def truncated(handler: Handler) -> bool:
    handler.body()
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"sta')
    handler.drop()
    return True


def no_http(handler: Handler) -> bool:
    handler.body()
    handler.wfile.write(b"SSH-2.0-OpenSSH_9.2\r\n")
    handler.close_connection = True
    return True


PROXY_PAGE = answering(502, b"<html><h1>Bad Gateway</h1></html>")


FAULTS: dict[str, Fault] = {
    "dropped": dropped,
    "done, then dropped": served_then_dropped,
    "500": answering(500, {"message": "no"}),
    "502": answering(502, b"<html>"),
    "503": answering(503, {}),
    "404": answering(404, {}),
    "done, then 500": served_then_answering(500),
    "done, then 503": served_then_answering(503),
    "hanging": hanging,
    "truncated": truncated,
    "garbage": answering(200, b"<html>hello</html>"),
    "an empty answer": answering(200, b""),
    "an empty object": answering(200, {}),
    "an empty list": answering(200, []),
    "no HTTP": no_http,
}
