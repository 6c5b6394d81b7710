"""One HTTP service: kept-alive connections, timeouts, tries with growing pauses, and answers that are looked at.

urllib3 rather than requests, which on small bodies spends more time than the network does.
"""

import json
import random
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import urllib3
from urllib3.exceptions import HTTPError, NewConnectionError

from ..errors import ServiceUnavailable

CONNECT_SECONDS = 10.0
# A metadata service takes 12 s for 10,000 files and grows with their number.
READ_SECONDS = 600.0
TRIES = 6
FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 30.0
BUSY_STATUSES = {429, 502, 503, 504}

Body = bytes | Iterable[bytes] | None


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
    def message(self) -> str:
        """What the service says went wrong, in a line."""
        content = self.json()
        if isinstance(content, dict) and content.get("message"):
            return f"{self.status}: {str(content['message'])[:300]}"
        return f"{self.status}: {' '.join(self.body[:200].decode(errors='replace').split())}"


class HttpService:
    """The service ``name``, as messages call it, at ``url``."""

    def __init__(self, name: str, url: str) -> None:
        self.name, self.url = name, url.rstrip("/")
        self._pool = urllib3.PoolManager(
            maxsize=1, retries=False, timeout=urllib3.Timeout(connect=CONNECT_SECONDS, read=READ_SECONDS)
        )

    def close(self) -> None:
        """Close the connections."""
        self._pool.clear()

    def ask(
        self,
        method: str,
        path: str = "",
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        repeatable: bool = True,
        busy: Iterable[int] = BUSY_STATUSES,
    ) -> Answer:
        """Send a request and return the answer, whatever its status.

        Tried again while the connection fails or the status is one of ``busy``, but only where it was never sent
        or is ``repeatable``. Raises ServiceUnavailable when all tries are used up.
        """
        busy = frozenset(busy)
        trouble = ""
        for attempt in range(TRIES):
            wait = 0.0
            try:
                answer = self.send(method, path, body=body, headers=headers)
                if answer.status not in busy:
                    return answer
                trouble, wait = answer.message, _retry_after(answer)
            except NewConnectionError as error:
                trouble = str(error)
            except HTTPError as error:
                trouble = str(error)
                if not repeatable:
                    break
            if attempt + 1 < TRIES:
                time.sleep(max(wait, pause(attempt)))
        raise ServiceUnavailable(f"{self.name} at {self.url} does not answer: {trouble}")

    def send(self, method: str, path: str, *, body: Body = None, headers: Mapping[str, str] | None = None) -> Answer:
        """Send a request once. Raises urllib3's HTTPError where there is no answer."""
        response = self._pool.request(method, self.url + path, body=body, headers=headers, redirect=False)
        return Answer(response.status, response.headers, response.data)


def pause(attempt: int) -> float:
    """Seconds to wait after a try that failed: twice as long each time, with jitter so that clients spread."""
    return min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0**attempt) * random.uniform(0.5, 1.0)


def _retry_after(answer: Answer) -> float:
    """The seconds that a Retry-After header asks for (RFC 9110, 10.2.3); its form as a date is not read."""
    value: str = answer.headers.get("Retry-After", "")
    seconds = float(value) if value.isdigit() else 0.0
    return min(LONGEST_PAUSE_SECONDS, seconds)
