"""The policy of a Pacifica site."""

from ...bundle.metadata import Document, as_json
from ...errors import PolicyRefused, ServiceUnavailable
from ...settings import Endpoint
from .adapter import Adapter
from .http import JSON, HttpService


class PacificaPolicy(Adapter):
    """The policy service whose ingest end point this is; the user goes in the header ``auth_header``."""

    def __init__(self, endpoint: Endpoint, auth_header: str) -> None:
        self._service = HttpService("the policy service", endpoint)
        self._auth_header = auth_header

    def ping(self) -> str:
        """Say how quickly the service answers to a document without a record, which it refuses."""
        return self._service.ping("POST", "", body=b"[]", expected=(200, 412))

    def check(self, document: Document, user: str) -> None:
        """Ask whether ``user`` may ingest ``document``."""
        body = b"".join(as_json(document.given))
        # Header values travel as Latin-1: this sends what is not ASCII as UTF-8.
        headers = {**JSON, self._auth_header: user.strip().encode().decode("latin-1")}
        answer = self._service.request("POST", body=body, headers=headers)
        if answer.is_success:
            return
        if answer.is_refusal or answer.status == 403:
            raise PolicyRefused(f"the policy refuses this bundle: {answer.message}")
        raise ServiceUnavailable(f"{self._service.name} at {self._service.url} fails: {answer.message}")
