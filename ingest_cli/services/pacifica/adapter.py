"""The base class of the adapters to a Pacifica site's services."""

from .http import BUSY_STATUSES, HttpService

# 500 too: the id and metadata services answer it while their own database is locked or away.
RESENT_STATUSES = frozenset({*BUSY_STATUSES, 500})


class Adapter:
    """A service that answers ``GET /`` when it is up."""

    _service: HttpService

    def ping(self) -> str:
        """Say how quickly the service answers."""
        return self._service.ping("GET", "/")

    def close(self) -> None:
        """Close the connections."""
        self._service.close()
