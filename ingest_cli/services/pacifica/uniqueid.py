"""Ids from Pacifica UniqueID."""

from ...errors import ServiceUnavailable
from ...settings import Endpoint
from ...text import counted
from ..base import IdMode
from .adapter import RESENT_STATUSES, Adapter
from .http import HttpService


class PacificaUniqueId(Adapter):
    """Ids from Pacifica UniqueID at ``endpoint``."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._service = HttpService("the id service", endpoint)

    def reserve(self, mode: IdMode, count: int) -> int:
        """Reserve ``count`` ids. A range that is asked for again after a lost answer is left unused: no harm."""
        # Two clients at once are enough for "database is locked" on its default SQLite.
        answer = self._service.request("GET", f"/getid?range={count}&mode={mode}", busy=RESENT_STATUSES)
        content = answer.json()
        try:
            first, last = int(content["startIndex"]), int(content["endIndex"])
        except (KeyError, TypeError, ValueError):
            first = last = -1  # as the service itself answers to a bad range
        if answer.status != 200 or first < 0 or last - first + 1 != count:
            raise ServiceUnavailable(f"{self._service.name} did not return {counted(count, 'id')}: {answer.message}")
        return first

    def pass_over(self, mode: IdMode, last: int) -> None:
        """Nothing: the service that was here before had its ids from this one."""
