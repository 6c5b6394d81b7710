"""The requests of browsers: those of programs for the same addresses are answered elsewhere."""

from functools import partial

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ...errors import IngestError, JobNotFound
from ...jobs.job import Job
from ...settings import Settings
from ...text import number_of, quoted
from ..access import NO_DOWNLOADS, Access
from ..async_store import AsyncStore
from ..authentication import Refusal
from ..holdings import Holdings
from ..proxies import external_path
from ..threads import Threads
from .actions import Action, Actions, forms, token_in
from .document import respond
from .html import Html, element, join, link
from .job_page import ON_A_PAGE, Files, JobStory, job_page
from .live import Feed
from .overview import Overview, overview_page
from .permission import Permission
from .query import Query
from .route import PageRoute


class PageRoutes:
    """The list of jobs, and the page of each."""

    def __init__(
        self, store: AsyncStore, settings: Settings, access: Access, holdings: Holdings, looking: Threads
    ) -> None:
        self._store, self._access, self._holdings, self._looking = store, access, holdings, looking
        self._feed, self._actions, self._permission = Feed(store), Actions(settings), Permission(settings, access)

    @property
    def routes(self) -> list[Route]:
        """The routes, which stand before those of programs."""
        return [
            PageRoute("/", self.overview),
            PageRoute("/jobs/{job_id}", self.job),
            *(
                PageRoute(f"/jobs/{{job_id}}/{action}", partial(self.act, action), methods=["POST"])
                for action in Action
            ),
            PageRoute("/live", self.live, accepts="text/event-stream"),
        ]

    async def overview(self, request: Request) -> Response:
        """The list."""
        below = below_of(request)
        found = await self._store.list(partial(Overview.of, query=Query.of(request.query_params)))
        return respond("Jobs", overview_page(found, below), below=below, uploads=found.query.is_plain)

    async def job(self, request: Request) -> Response:
        """A job."""
        below = below_of(request)
        try:
            story = await self._store.look(partial(JobStory.of, job_id=_job_id(request.path_params["job_id"])))
        except JobNotFound as error:
            return _problem(404, str(error), below)
        files = await self._files(request, story)
        title = f"Job {story.job.job_id}: {story.job.status}"
        page = job_page(story, below, files=files, actions=self._forms(request, story.job, below))
        return respond(title, page, below=below, job=story.job.job_id)

    async def act(self, action: Action, request: Request) -> Response:
        """Do something with a job, and lead back to its page; where it cannot be done, say so."""
        below = below_of(request)
        try:
            token = await token_in(request)
            job = (await self._store.look(partial(JobStory.of, job_id=_job_id(request.path_params["job_id"])))).job
            self._permission.require(request, job, token)
            return await self._actions.answer(request, job, action)
        except JobNotFound as error:
            return _problem(404, str(error), below)
        except Refusal as refusal:
            return _problem(refusal.status, refusal.message, below)

    def _forms(self, request: Request, job: Job, below: str) -> Html | None:
        if not self._permission.may_act(request, job):
            return None
        return forms(job, below, self._permission.token(request, job))

    async def live(self, request: Request) -> Response:
        """What changes, for the list and for the pages of jobs."""
        return self._feed.answer(external_path(request, "/") if request.state.root_path else "")

    async def _files(self, request: Request, story: JobStory) -> Files | str | None:
        """The files of a job that is done, or why they are not shown; None where there are none yet."""
        if not story.job.is_done:
            return None
        first = number_of(request.query_params.get("files", "")) or 0
        try:
            recorded = await self._access.find(request, story.job.job_id)
            named = (await self._looking.do(self._holdings.stored, recorded)).named
        except Refusal as refusal:
            return NO_FILES if refusal.message == NO_DOWNLOADS else refusal.message
        except (IngestError, HTTPException) as error:
            return f"They cannot be shown now: {error}"
        return Files(named=named[first : first + ON_A_PAGE], first=first, total=len(named))


NO_FILES = "This server shows nothing of what is stored, unless its configuration says so (downloads)."


def below_of(request: Request) -> str:
    """The path to the list of jobs, as a browser finds it from the page that it asks for.

    Where no proxy is known it leads up from that page: one that is not known may have taken a path off.
    """
    root_path: str = request.state.root_path
    depth = request.scope["raw_path"].count(b"/") - 1
    return external_path(request, "/") if root_path else "../" * depth


def _job_id(given: str) -> int:
    number = number_of(given)
    if number is None:
        raise JobNotFound(f"there is no job {quoted(given)}")
    return number


def _problem(status: int, message: str, below: str) -> Response:
    """A page that says what is wrong."""
    back = element("p", link(below or "./", "All jobs"))
    return respond(message, join([element("h1", _sentence(message)), back]), below=below, status=status)


def _sentence(message: str) -> Html:
    return join([message[:1].upper() + message[1:]])
