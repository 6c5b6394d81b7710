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

from requests import RequestException
from urllib3 import BaseHTTPResponse, Timeout
from urllib3.exceptions import HTTPError, NewConnectionError, ProtocolError, SSLError

from ...connections import FilePool, session
from ...errors import ServiceUnavailable
from ...settings import Endpoint
from ...text import duration
from ..slots import Slots

CONNECT_SECONDS = 10.0
# A metadata service takes 12 s for 10,000 files and grows with their number.
READ_SECONDS = 600.0
TRIES = 6
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
Body = bytes | Iterable[bytes]


class NoAnswer(Exception):
    """A request that was not answered; its text is the reason, without what requests and urllib3 wrap it in."""

    def __init__(self, error: Exception) -> None:
        self._wrapped = tuple(_unwrapped(error))
        super().__init__(str(self._wrapped[-1]))

    @property
    def was_sent(self) -> bool:
        """Whether the service may have seen it."""
        return not isinstance(self._wrapped[-1], NewConnectionError)

    @property
    def is_lasting(self) -> bool:
        """Whether it makes no sense to ask again: a certificate that is not trusted now will not be in a second."""
        return any(isinstance(error, SSLError) for error in self._wrapped)

    @property
    def was_dropped(self) -> bool:
        """Whether the connection was closed under it."""
        return any(isinstance(error, ProtocolError) for error in self._wrapped)


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
        except ValueError:
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
        """The seconds that a Retry-After header asks for (RFC 9110, 10.2.3); its form as a date is not read."""
        value: str = self.headers.get("Retry-After", "")
        seconds = float(value) if value.isdigit() else 0.0
        return min(LONGEST_PAUSE_SECONDS, seconds)

    @property
    def message(self) -> str:
        """What the service says went wrong, in a line."""
        content = self.json()
        if isinstance(content, dict) and content.get("message"):
            return f"{self.status}: {str(content['message'])[:300]}"
        return f"{self.status}: {' '.join(self.body[:200].decode(errors='replace').split())}"


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
        self._dropped = 0

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

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
        require: Callable[[], None] | None = None,
    ) -> Answer:
        """Send a request and return the answer, whatever its status.

        It is sent again while the connection fails or the status is one of ``busy``, but only where it was never sent
        or is ``repeatable``. ``require`` is as for `send`. Raises ServiceUnavailable after ``tries`` attempts.
        """
        busy = frozenset(busy)
        trouble = ""
        for attempt in range(tries):
            wait = 0.0
            try:
                answer = self.send(method, path, body=body, headers=headers, require=require)
                if answer.status not in busy:
                    return answer
                trouble, wait = answer.message, answer.retry_after
            except NoAnswer as error:
                trouble = str(error)
                if error.is_lasting or (error.was_sent and not repeatable):
                    break
            if attempt + 1 < tries:
                self.back_off(attempt, trouble, at_least=wait)
        raise ServiceUnavailable(f"{self.name} at {self.url} does not answer: {trouble}")

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
        require: Callable[[], None] | None = None,
    ) -> Answer:
        """Send a request once. Raises NoAnswer.

        ``require`` may raise to prevent it: it is called once there is a free slot, which may take long.
        """
        options = {"data": body, "headers": headers}
        with self._asked(method, path, require, partial(self._ask, method, path, options)) as response:
            return _whole(response)

    def send_file(self, path: str, body: Body, size: int, require: Callable[[], None]) -> Answer:
        """PUT the ``size`` bytes of a file once, as `send` sends a request."""
        headers = {"Content-Length": str(size), "Content-Type": "application/octet-stream"}
        timeout = Timeout(connect=CONNECT_SECONDS, read=READ_SECONDS)
        with self._asked("PUT", path, require, partial(self._files.put, path, body, headers, timeout)) as response:
            return _whole(response)

    @contextmanager
    def stream(self, path: str) -> Iterator[BaseHTTPResponse]:
        """GET an answer whose body may be large: its ``status`` is known, its body is read by ``stream()``.

        Raises NoAnswer, also where the body breaks off.
        """
        with self._asked("GET", path, None, partial(self._ask, "GET", path, {})) as response:
            yield response

    def _ask(self, method: str, path: str, options: Mapping[str, Any]) -> BaseHTTPResponse:
        timeout = (CONNECT_SECONDS, READ_SECONDS)
        url = self.url + path
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
                self._session.close()  # which leaves it with no connection that the service may have closed
            if require is not None:
                require()
            url, begun = self.url + path, time.monotonic()
            try:
                with closing(ask()) as response:
                    log.debug("%s %s: %d after %.0f ms", method, url, response.status, _milliseconds_since(begun))
                    yield response
            except (RequestException, HTTPError) as error:
                none = NoAnswer(error)
                log.debug("%s %s: %s after %.0f ms", method, url, none, _milliseconds_since(begun))
                self._dropped += none.was_dropped
                raise none from error


def _whole(response: BaseHTTPResponse) -> Answer:
    return Answer(response.status, response.headers, response.read(decode_content=True))


def _unwrapped(error: BaseException) -> Iterator[BaseException]:
    """An error of requests or urllib3, the one that it tells of, and so on to the innermost."""
    yield error
    inner = (getattr(error, "reason", None), getattr(error, "original_error", None), *error.args)
    for found in inner:
        if isinstance(found, BaseException):
            yield from _unwrapped(found)
            return


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
