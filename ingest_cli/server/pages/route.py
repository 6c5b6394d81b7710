"""The routes of those who ask for a page: programs that ask for something else at the same address get that."""

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import Scope

Answer = Callable[[Request], Awaitable[Response]]


class PageRoute(Route):
    """A route of requests that accept what only browsers ask for. It is not described for programs."""

    def __init__(
        self,
        path: str,
        answer: Answer,
        *,
        accepts: str = "text/html",
        methods: list[str] | None = None,
    ) -> None:
        super().__init__(path, answer, methods=methods)
        self._accepts = accepts.encode()

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Whether it is the route of a request."""
        return super().matches(scope) if self._accepts in _accepted(scope) else (Match.NONE, {})


def wants_page(scope: Scope) -> bool:
    """Whether it is a browser that asks for a page."""
    return scope["method"] in ("GET", "HEAD") and b"text/html" in _accepted(scope)


def _accepted(scope: Scope) -> bytes:
    return b",".join(value for name, value in scope.get("headers", ()) if name == b"accept")
