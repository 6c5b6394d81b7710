"""Who may download what: a user what was recorded in that user's name, and a reader everything."""

from collections.abc import Collection

from starlette.exceptions import HTTPException
from starlette.requests import Request

from ..errors import JobNotFound
from ..jobs.store import JobStore
from ..pipeline.selection import recorded_as
from ..settings import Settings
from .async_store import AsyncStore
from .authentication import Refusal

NO_DOWNLOADS = (
    "this server returns nothing of what is stored: [server] downloads (INGEST_DOWNLOADS) in its configuration"
)
ALL_USERS = "*"


class Access:
    """The rules of a site, and whose job is whose."""

    def __init__(self, settings: Settings, store: AsyncStore) -> None:
        self._server, self._default_user, self._store = settings.server, settings.user, store

    def require_downloads(self) -> None:
        """Raise Refusal where nothing can be downloaded."""
        if not self._server.downloads:
            raise Refusal(403, NO_DOWNLOADS)

    async def find(self, request: Request, job_id: int) -> int:
        """The job under whose id the content of this one is recorded.

        Raises Refusal where the user may not have it, HTTPException where there is no such job.
        """
        self.require_downloads()
        known, recorded = await self._store.look(lambda store: (_user_of(store, job_id), recorded_as(store, job_id)))
        # What the job store has forgotten, the catalogue may have.
        if known is None and not self._is_reader(request):
            raise HTTPException(404, f"there is no job {job_id}")
        await self.require_own(request, [recorded])
        return recorded

    async def require_own(self, request: Request, job_ids: Collection[int]) -> None:
        """Raise Refusal unless the user may have what is recorded of these jobs.

        What counts is in whose name it was recorded. Who has only the document of a bundle can make a job that is the
        duplicate of another user's.
        """
        self.require_downloads()
        if self._is_reader(request):
            return
        users = await self._store.look(lambda store: {job_id: _user_of(store, job_id) for job_id in job_ids})
        for job_id, user in users.items():
            if user is None or user != self.own_name(request):
                raise Refusal(403, f"what is recorded of job {job_id} was not submitted by you")

    async def has(self, request: Request, job_id: int) -> bool:
        """Whether the user may have what is recorded of a job."""
        try:
            await self.find(request, job_id)
        except (Refusal, HTTPException):
            return False
        return True

    def own_name(self, request: Request) -> str | None:
        """The visitor's name; None where the request may be anyone's, since no proxy has said whose it is."""
        user: str = request.state.user
        return None if self._server.has_proxies and user == self._default_user else user

    def _is_reader(self, request: Request) -> bool:
        return ALL_USERS in self._server.readers or request.state.user in self._server.readers


def _user_of(store: JobStore, job_id: int) -> str | None:
    try:
        return store.get(job_id).user
    except JobNotFound:
        return None
