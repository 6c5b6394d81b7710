"""Where an upload goes, and with which credentials."""

from dataclasses import dataclass
from pathlib import Path

from ..settings import Endpoint


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """A server to send to: ``endpoint`` has its URL without ``/upload``, and the credentials.

    ``status_url`` is where it is asked for the state of a job. The service at ``policy_url`` is asked what
    ``uploader_config`` says, and gets the same credentials. ``user`` goes along in the header ``auth_header``.
    """

    endpoint: Endpoint
    status_url: str
    policy_url: str | None = None
    uploader_config: Path | None = None
    auth_header: str = ""
    user: str | None = None

    @property
    def url(self) -> str:
        """The server's URL."""
        return self.endpoint.url


def without_upload(url: str) -> str:
    """The URL of a server, from that of its uploads as Pacifica's clients have it."""
    return url.rstrip("/").removesuffix("/upload").rstrip("/")
