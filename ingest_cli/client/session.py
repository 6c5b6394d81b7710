"""HTTP to one server: credentials, certificates, and what its answers mean."""

import json
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.exceptions import (
    InvalidHeader,
    InvalidProxyURL,
    InvalidSchema,
    InvalidURL,
    MissingSchema,
    RequestException,
    SSLError,
)

from ..connections import reason_of, retry_after, session
from ..errors import IngestError, ServiceUnavailable, SettingsError, UploadRefused
from ..text import quoted
from .target import Target

# Before an answer the server may have to bring a large file to its disk. While a body is sent the first one counts.
SECONDS = (10.0, 60.0)
SENDING_SECONDS = (60.0, 600.0)
LONGEST_PAUSE_SECONDS = 60.0
BUSY_STATUSES = {408, 423, 425, 429}
# A mistake in the settings, which no second try mends.
USELESS = (InvalidURL, InvalidSchema, MissingSchema, InvalidHeader, InvalidProxyURL)


class Busy(ServiceUnavailable):
    """The server answers that it cannot do it now, and perhaps for how long."""

    def __init__(self, message: str, at_least: float) -> None:
        super().__init__(message)
        self.at_least = at_least


class Session:
    """Requests to the ``name`` at ``target``, with its credentials. Raises SettingsError where they cannot be used."""

    def __init__(self, target: Target, name: str = "the server") -> None:
        self._name, self._target = name, target
        self._sessions: dict[str, requests.Session] = {}
        self._session(target.url)

    def close(self) -> None:
        """Close the connections."""
        for made in self._sessions.values():
            made.close()

    def request(
        self,
        method: str,
        url: str,
        *,
        body: Any = None,
        headers: dict[str, str] | None = None,
        timeout: tuple[float, float] = SECONDS,
    ) -> requests.Response:
        """Send a request and return the answer, whatever its status, but for those that come of the moment.

        Raises ServiceUnavailable where there is no answer, Busy where the server has no time, and SettingsError where
        it does not let us in, or is another than the URL says.
        """
        try:
            answer = self._session(url).request(
                method, url, data=body, headers=headers, timeout=timeout, allow_redirects=False
            )
        except SSLError as error:
            raise self._explained(url, error) from error
        except USELESS as error:
            raise SettingsError(f"{self._name} at {url} cannot be asked: {error}") from error
        except RequestException as error:
            raise ServiceUnavailable(f"{self._name} at {url} does not answer: {reason_of(error)}") from error
        self._require_usable(url, answer)
        return answer

    def refused(self, answer: requests.Response) -> IngestError:
        """The error for an answer that no second try will change."""
        return UploadRefused(f"{self._name} at {answer.url} refuses it: {message_of(answer)}")

    def _session(self, url: str) -> requests.Session:
        """The session with the host of the URL: it has a proxy, authorities and an entry in .netrc of its own."""
        parts = urlsplit(url)
        origin = f"{parts.scheme}://{parts.netloc}"
        if origin not in self._sessions:
            made = session(replace(self._target.endpoint, url=origin))
            if self._target.user is not None:
                made.headers[self._target.auth_header] = self._target.user.encode()
            self._sessions[origin] = made
        return self._sessions[origin]

    def _require_usable(self, url: str, answer: requests.Response) -> None:
        status = answer.status_code
        if (status >= 500 and status not in (501, 505)) or status in BUSY_STATUSES:
            raise Busy(
                f"{self._name} at {url} cannot take it now: {message_of(answer)}",
                min(LONGEST_PAUSE_SECONDS, retry_after(answer.headers)),
            )
        if status in (401, 407):
            raise SettingsError(f"{self._name} at {url} requires credentials: {message_of(answer)}")
        if status == 403:
            raise SettingsError(f"{self._name} at {url} does not allow it: {message_of(answer)}")
        if answer.is_redirect:
            raise SettingsError(f"{self._name} at {url} has moved to {quoted(answer.headers['Location'])}: name that")

    def _explained(self, url: str, error: SSLError) -> IngestError:
        if "CERTIFICATE_VERIFY_FAILED" not in str(error):
            return ServiceUnavailable(f"{self._name} at {url} does not answer: {reason_of(error)}")
        return SettingsError(f"the certificate of {url} is not trusted ({reason_of(error)}): name its CA by --ca-file")


def message_of(answer: requests.Response) -> str:
    """What the server says went wrong, in a line."""
    try:
        message = answer.json()["message"]
    except (ValueError, KeyError, TypeError):
        message = " ".join(answer.text[:200].split()) or answer.reason
    return f"{answer.status_code}: {str(message)[:300]}"


def object_of(answer: requests.Response, session: Session) -> Any:
    """The JSON of an answer. Raises UploadRefused where the status or the body is something else."""
    if answer.status_code != 200:
        raise session.refused(answer)
    try:
        return json.loads(answer.content)
    except ValueError:
        raise session.refused(answer) from None
