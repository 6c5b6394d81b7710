"""The requests of browsers: those of programs for the same addresses are answered elsewhere."""

from functools import partial

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ...errors import IngestError, JobNotFound
from ...jobs.attendance import patience_of
from ...jobs.job import Job
from ...jobs.sightings import Sightings
from ...settings import Settings
from ...text import number_of, quoted
from ..access import NO_DOWNLOADS, Access
from ..async_store import AsyncStore
from ..authentication import Refusal
from ..holdings import Holdings
from ..proxies import external_path
from ..streams import log_failure
from ..threads import Threads
from .actions import Action, Actions, forms, not_allowed, token_in
from .document import respond
from .html import Html, element, join, link
from .job_page import ON_A_PAGE, Files, JobStory, job_page
from .live import Feed
from .overview import Overview, overview_page
from .permission import Permission
from .query import Query
from .route import Answer, PageRoute

NO_FILES = "This server shows nothing of what is stored, unless its configuration says so (downloads)."


class PageRoutes:
    """The list of jobs, and the page of each, whose forms are signed by ``key``."""

    def __init__(
        self, store: AsyncStore, settings: Settings, access: Access, holdings: Holdings, looking: Threads, key: bytes
    ) -> None:
        self._defaults, self._sightings = settings.defaults.ids, Sightings(patience_of(settings.timings))
        self._store, self._access, self._holdings, self._looking = store, access, holdings, looking
        self._feed, self._actions = Feed(store, self._sightings), Actions(settings)
        self._permission = Permission(settings, access, key)

    @property
    def routes(self) -> list[Route]:
        """The routes, which stand before those of programs."""
        acting = [(f"/jobs/{{job_id}}/{action}", partial(self.act, action)) for action in Action]
        return [
            PageRoute("/", _as_page(self.overview)),
            PageRoute("/jobs/{job_id}", _as_page(self.job)),
            *(PageRoute(path, _as_page(act), methods=["POST"]) for path, act in acting),
            PageRoute("/live", self.live, accepts="text/event-stream"),
        ]

    async def overview(self, request: Request) -> Response:
        """The list."""
        below, query = below_of(request), Query.of(request.query_params)
        ask = self._store.search if query.is_narrow else self._store.list
        found = await ask(partial(Overview.of, query=query, sightings=self._sightings))
        return respond("Jobs", overview_page(found, below, self._defaults), below=below, uploads=query.is_plain)

    async def job(self, request: Request) -> Response:
        """A job."""
        below, job_id = below_of(request), _job_id(request)
        story = await self._store.look(partial(JobStory.of, job_id=job_id))
        files, actions = await self._files(request, story.job), self._forms(request, story.job, below)
        page = job_page(story, below, files=files, actions=actions)
        return respond(f"Job {job_id}: {story.job.status}", page, below=below, job=job_id)

    async def act(self, action: Action, request: Request) -> Response:
        """Do something with a job, and lead back to its page."""
        token, job_id = await token_in(request), _job_id(request)
        job = await self._store.look(lambda store: store.get(job_id))
        self._permission.require(request, job, token)
        return await self._actions.answer(request, job, action)

    async def live(self, request: Request) -> Response:
        """What changes, for the list and for the pages of jobs."""
        return self._feed.answer(external_path(request, "/") if request.state.root_path else "")

    def _forms(self, request: Request, job: Job, below: str) -> Html | None:
        why = self._permission.refusal(request, job)
        return forms(job, below, self._permission.token(request, job)) if why is None else not_allowed(job, why)

    async def _files(self, request: Request, job: Job) -> Files | str | None:
        """The files of a job that is done, or why they are not shown; None where there are none yet."""
        if not job.is_done:
            return None
        first = number_of(request.query_params.get("files", "")) or 0
        try:
            recorded = await self._access.find(request, job.job_id)
            named = (await self._looking.do(self._holdings.stored, recorded)).named
        except Refusal as refusal:
            return NO_FILES if refusal.message == NO_DOWNLOADS else refusal.message
        except IngestError as error:
            log_failure(request, error)
            return "They cannot be shown now: see the server's log."
        first = first if first < len(named) else 0
        return Files(named=named[first : first + ON_A_PAGE], first=first, total=len(named))


def _as_page(answer: Answer) -> Answer:
    """The answer, or a page that says why there is none."""

    async def answered(request: Request) -> Response:
        try:
            return await answer(request)
        except JobNotFound:  # which says as well where the store is
            return problem_page(request, 404, f"there is no job {quoted(request.path_params['job_id'])}")
        except Refusal as refusal:
            return problem_page(request, refusal.status, refusal.message)
        except IngestError as error:
            log_failure(request, error)
            return problem_page(request, 503, "the server cannot do this now: see its log")

    return answered


def problem_page(request: Request, status: int, message: str) -> Response:
    """A page that says why there is no other."""
    below, sentence = below_of(request), message[:1].upper() + message[1:]
    content = join([element("h1", sentence), element("p", link(below or "./", "All jobs"))])
    return respond(sentence, content, below=below, status=status)


def below_of(request: Request) -> str:
    """The path to the list of jobs, as a browser finds it from the page that it asks for.

    Where no proxy is known it leads up from that page: one that is not known may have taken a path off.
    """
    root_path: str = request.state.root_path
    depth = request.scope["raw_path"].count(b"/") - 1
    return external_path(request, "/") if root_path else "../" * depth


def _job_id(request: Request) -> int:
    given = request.path_params["job_id"]
    number = number_of(given)
    if number is None:
        raise JobNotFound(f"there is no job {quoted(given)}")
    return number
