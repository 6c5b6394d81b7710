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
        accepted = b",".join(value for name, value in scope.get("headers", ()) if name == b"accept")
        return super().matches(scope) if self._accepts in accepted else (Match.NONE, {})
