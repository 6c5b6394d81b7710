"""One HTTP service: kept-alive connections, timeouts, retries with growing pauses, and what its answers mean."""

import json
import logging
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any, cast

from urllib3 import BaseHTTPResponse, Timeout
from urllib3.exceptions import NewConnectionError, ProtocolError, SSLError
from urllib3.exceptions import TimeoutError as HttpTimeoutError

from ...connections import FAILURES, FilePool, reason_of, retry_after, session, unwrapped
from ...errors import ServiceUnavailable
from ...settings import Endpoint
from ...text import duration
from ..slots import Slots

TRIES = 6
# So many requests of a run that a service takes and never answers, and it is given up: each costs a whole timeout.
HANGS = 2
# A timeout is of each piece, so that a slow line is none that stands still. Where one has gone within so many seconds,
# the next is larger: each costs time too.
SMALLEST_PIECE, LARGEST_PIECE = 1 << 16, 1 << 20
QUICK_SECONDS = 0.05
# An answer has the time that a service may take to begin it, and as much more as it takes at so many bytes a second.
SLOWEST_ANSWER = 1000
# So much of a body this system may hold when all of it is sent; on a line of 1 Mbit/s, so many bytes a second arrive.
HELD_BYTES, SLOW_BYTES = 4 << 20, 1 << 17
FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 30.0
# After so many connections that were closed under a request, each request gets a connection of its own.
KEPT_ALIVE_FAILURES = 3
# Tokens and certificates come to be refused when clocks are this far apart.
MAX_SKEW_SECONDS = 60.0
BUSY_STATUSES = {429, 502, 503, 504}
# These are about who asks, the address or the moment, not about what was sent: a later run may succeed.
RETRYABLE_4XX = {401, 403, 404, 405, 407, 408, 425, 429}

log = logging.getLogger(__name__)

JSON = {"Content-Type": "application/json"}


class Pieces:
    """A body that is sent piece by piece."""

    def __init__(self, chunks: Iterable[bytes], size: int) -> None:
        self._chunks, self._size = chunks, size

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[memoryview]:
        length = SMALLEST_PIECE
        for chunk in self._chunks:
            unsent = memoryview(chunk)
            while unsent:
                begun = time.monotonic()
                yield unsent[:length]
                unsent = unsent[length:]
                is_quick = time.monotonic() - begun < QUICK_SECONDS
                length = min(LARGEST_PIECE, 2 * length) if is_quick else SMALLEST_PIECE


class NoAnswer(Exception):
    """A request that was not answered; its text is the reason, without what requests and urllib3 wrap it in.

    ``seconds`` is how long the request took.
    """

    def __init__(self, error: Exception, seconds: float) -> None:
        self._wrapped = tuple(unwrapped(error))
        super().__init__(f"timed out after {duration(seconds)}" if self.has_timed_out else reason_of(error))

    @property
    def was_sent(self) -> bool:
        """Whether the service may have seen it."""
        return not isinstance(self._wrapped[-1], NewConnectionError)

    @property
    def has_timed_out(self) -> bool:
        """Whether it was waited for until the time was over."""
        # To urllib3 a connection that is refused is one that was not made in time.
        return self.was_sent and any(isinstance(error, (TimeoutError, HttpTimeoutError)) for error in self._wrapped)

    @property
    def is_lasting(self) -> bool:
        """Whether it makes no sense to ask again: a certificate that is not trusted now will not be in a second."""
        return any(isinstance(error, SSLError) for error in self._wrapped)

    @property
    def was_dropped(self) -> bool:
        """Whether the connection was closed under it."""
        return any(isinstance(error, ProtocolError) for error in self._wrapped) and not self.has_timed_out


@dataclass(frozen=True, slots=True)
class Answer:
    """What a service answered: ``body`` in full."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON; None where it is something else, such as a proxy's page of HTML."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            return None

    @property
    def is_success(self) -> bool:
        """Whether this is the 200 ``{"status": "success"}`` of Pacifica's policy and metadata services."""
        content = self.json()
        return self.status == 200 and isinstance(content, dict) and content.get("status") == "success"

    @property
    def is_refusal(self) -> bool:
        """Whether what was sent will never be accepted."""
        return 400 <= self.status < 500 and self.status not in RETRYABLE_4XX

    @property
    def retry_after(self) -> float:
        """The seconds that the service asks to wait, within reason."""
        return min(LONGEST_PAUSE_SECONDS, retry_after(self.headers))

    @property
    def message(self) -> str:
        """What the service says went wrong, in a line."""
        content = self.json()
        if isinstance(content, dict) and content.get("message"):
            return f"{self.status}: {str(content['message'])[:300]}"
        return f"{self.status}: {' '.join(self.body[:200].decode(errors='replace').split())}"


class NeverReached(ServiceUnavailable):
    """No request has come to the service: it has done nothing."""


class HttpService:
    """The service ``name``, as messages call it, at ``endpoint``.

    ``connections`` many threads may use it at once. Where there are ``slots``, a request waits for one.

    Raises SettingsError where the endpoint's certificates or the environment's proxy cannot be used.
    """

    def __init__(self, name: str, endpoint: Endpoint, *, connections: int = 1, slots: Slots | None = None) -> None:
        self.name, self.url = name, endpoint.url.rstrip("/")
        self._slots = slots
        self._session = session(endpoint, connections)
        self._files = FilePool(self._session, self.url)
        self._timeout = endpoint.timeout
        self._dropped = self._hung = 0

    @property
    def hangs(self) -> bool:
        """Whether the last requests, so many as a run sends to a service that hangs, were in vain."""
        return self._hung >= HANGS

    def close(self) -> None:
        """Close the connections."""
        self._files.close()
        if self._slots is not None:
            self._slots.close()

    def request(
        self,
        method: str,
        path: str = "",
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        repeatable: bool = True,
        busy: Iterable[int] = BUSY_STATUSES,
        tries: int = TRIES,
        work: float = 0.0,
        require: Callable[[], None] | None = None,
    ) -> Answer:
        """Send a request and return the answer, whatever its status.

        It is sent again while the connection fails or the status is one of ``busy``, but only where it was never sent
        or is ``repeatable``. ``work`` and ``require`` are as for `send`. Raises ServiceUnavailable after ``tries``
        attempts, and sooner where the service hangs.
        """
        busy = frozenset(busy)
        trouble, was_sent = "", False
        for attempt in range(tries):
            wait = 0.0
            try:
                answer = self.send(method, path, body=body, headers=headers, work=work, require=require)
                if answer.status not in busy:
                    return answer
                trouble, wait, was_sent = answer.message, answer.retry_after, True
            except NoAnswer as error:
                trouble, was_sent = str(error), was_sent or error.was_sent
                if error.is_lasting or self.hangs or (error.was_sent and not repeatable):
                    break
            if attempt + 1 < tries:
                self.back_off(attempt, trouble, at_least=wait)
        unavailable = ServiceUnavailable if was_sent else NeverReached
        raise unavailable(f"{self.name} at {self.url} does not answer: {trouble}")

    def back_off(self, attempt: int, trouble: str, *, at_least: float = 0.0) -> None:
        """Wait before the next attempt, after the one of this number (from 0) has failed."""
        seconds = max(at_least, pause(attempt))
        failed = f"attempt {attempt + 1} of {TRIES} failed ({trouble})"
        log.info("%s: %s; retrying in %s", self.name, failed, duration(seconds))
        time.sleep(seconds)

    def ping(self, method: str, path: str, *, body: bytes | None = None, expected: Iterable[int] = (200,)) -> str:
        """Send a harmless request, and say how long the answer took.

        Raises ServiceUnavailable where the answer is not JSON with an ``expected`` status, or where the service's clock
        and ours are far apart.
        """
        begun = time.monotonic()
        answer = self.request(method, path, body=body, headers=JSON, tries=1)
        took = time.monotonic() - begun
        if answer.status not in expected or answer.json() is None:
            raise ServiceUnavailable(f"unexpected answer from {self.name} at {self.url}: {answer.message}")
        self._require_same_time(answer)
        return f"{self.url} answers in {took * 1000:.0f} ms"

    def _require_same_time(self, answer: Answer) -> None:
        skew = _clock_skew(answer)
        if abs(skew) > MAX_SKEW_SECONDS:
            ahead = "ahead of" if skew > 0 else "behind"
            raise ServiceUnavailable(f"the clock of {self.name} is {duration(abs(skew))} {ahead} this machine's")

    def send(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        work: float = 0.0,
        require: Callable[[], None] | None = None,
    ) -> Answer:
        """Send a request once. Raises NoAnswer.

        ``work`` is how many seconds longer than usual the service may take for it. ``require`` may raise to prevent it:
        it is called once there is a free slot, which may take long.
        """
        data = Pieces([body], len(body)) if body else None
        ask = partial(self._ask, method, path, work + _seconds_held(data), data=data, headers=headers)
        with self._asked(method, path, require, ask) as response:
            return _whole(response, self._timeout)

    def send_file(
        self, path: str, chunks: Iterable[bytes], size: int, work: float, require: Callable[[], None]
    ) -> Answer:
        """PUT the ``size`` bytes of a file once, as `send` sends a request."""
        headers = {"Content-Length": str(size), "Content-Type": "application/octet-stream"}
        body = Pieces(chunks, size)
        timeout = Timeout(connect=self._timeout, read=self._timeout + work + _seconds_held(body))
        ask = partial(self._files.put, path, body, headers, timeout)
        with self._asked("PUT", path, require, ask) as response:
            return _whole(response, self._timeout)

    @contextmanager
    def stream(self, path: str) -> Iterator[BaseHTTPResponse]:
        """GET an answer whose body may be large: its ``status`` is known, its body is read by ``stream()``.

        Raises NoAnswer, also where the body breaks off.
        """
        with self._asked("GET", path, None, partial(self._ask, "GET", path, 0.0)) as response:
            yield response

    def _ask(self, method: str, path: str, work: float, **options: Any) -> BaseHTTPResponse:
        # The first is of the connection and of each piece that is sent, the second of each piece of the answer.
        timeout, url = (self._timeout, self._timeout + work), self.url + path
        answer = self._session.request(method, url, timeout=timeout, allow_redirects=False, stream=True, **options)
        return cast(BaseHTTPResponse, answer.raw)

    @contextmanager
    def _asked(
        self,
        method: str,
        path: str,
        require: Callable[[], None] | None,
        ask: Callable[[], BaseHTTPResponse],
    ) -> Iterator[BaseHTTPResponse]:
        """The answer that ``ask`` gets, once there is a slot."""
        with self._slots.acquire() if self._slots is not None else nullcontext():
            if self._dropped >= KEPT_ALIVE_FAILURES:
                self._files.close()  # which leaves no connection that the service may have closed
            if require is not None:
                require()
            url, begun = self.url + path, time.monotonic()
            try:
                with closing(ask()) as response:
                    log.debug("%s %s: %d after %.0f ms", method, url, response.status, _milliseconds_since(begun))
                    yield response
                self._hung = 0
            except FAILURES as error:
                none = NoAnswer(error, time.monotonic() - begun)
                log.debug("%s %s: %s after %.0f ms", method, url, none, _milliseconds_since(begun))
                self._dropped += none.was_dropped
                self._hung = self._hung + 1 if none.has_timed_out else 0
                raise none from error


def _seconds_held(body: Pieces | None) -> float:
    """How long after its last byte was sent a body may still be on its way."""
    return 0.0 if body is None else min(HELD_BYTES, len(body)) / SLOW_BYTES


def _whole(response: BaseHTTPResponse, seconds: float) -> Answer:
    """The answer, if all of it comes within so many seconds, or goes on at SLOWEST_ANSWER: each byte by itself might
    come in time. Raises urllib3's TimeoutError."""
    body, begun = bytearray(), time.monotonic()
    while piece := response.read1(decode_content=True):
        body += piece
        if time.monotonic() - begun > seconds + len(body) / SLOWEST_ANSWER:
            raise HttpTimeoutError("the answer comes too slowly")
    return Answer(response.status, response.headers, bytes(body))


def _milliseconds_since(begun: float) -> float:
    return 1000 * (time.monotonic() - begun)


def _clock_skew(answer: Answer) -> float:
    """By how many seconds the service's clock is ahead of ours; 0 where it does not say (RFC 9110, 6.6.1)."""
    try:
        return parsedate_to_datetime(answer.headers["Date"]).timestamp() - time.time()
    except (KeyError, ValueError):
        return 0.0


def pause(attempt: int) -> float:
    """Seconds to wait after a failed attempt: twice as long each time, with jitter so that clients spread."""
    return min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0**attempt) * random.uniform(0.5, 1.0)
