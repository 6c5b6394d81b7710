"""What a visitor may have done with a job: it is retried, cancelled or discarded."""

import asyncio
import sys
from enum import StrEnum
from functools import partial
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from ...errors import IngestError
from ...jobs.job import Job, JobStatus
from ...jobs.store import open_store
from ...pipeline.settlement import cancel, discard
from ...services.factory import connect
from ...settings import Settings
from ...text import one_line
from ..authentication import Refusal
from ..threads import Threads
from .html import Html, element, join

MOST_BYTES = 4096
# What takes longer goes on while the visitor looks at the job again.
PATIENCE_SECONDS = 10.0


class Action(StrEnum):
    """By its name it is asked for."""

    RETRY = "retry"
    CANCEL = "cancel"
    DISCARD = "discard"


MEANINGS = {
    Action.RETRY: "It is run again as soon as a worker is free.",
    Action.CANCEL: "It stops, and what is stored of it is rolled back. It is never run again.",
    Action.DISCARD: "What is stored of it is rolled back. It is never run again.",
}
POSSIBLE = {
    JobStatus.WAITING: (Action.CANCEL,),
    JobStatus.INTERRUPTED: (Action.CANCEL,),
    JobStatus.DEFERRED: (Action.RETRY, Action.CANCEL),
    JobStatus.RUNNING: (Action.CANCEL,),
    JobStatus.FAILED: (Action.RETRY, Action.DISCARD),
    JobStatus.HELD: (Action.RETRY, Action.DISCARD),
}


def forms(job: Job, below: str, token: str) -> Html | None:
    """A form for each action that the job's state allows; the grave ones are unfolded first."""
    possible = POSSIBLE.get(job.status, ())
    if not possible:
        return None
    parts = (_form(action, f"{below}jobs/{job.job_id}/{action}", token) for action in possible)
    return element("section", *parts, aria_label="What can be done", class_="actions")


def not_allowed(job: Job, why: str) -> Html | None:
    """Why there is no form, where there would be one for others."""
    possible = [str(action) for action in POSSIBLE.get(job.status, ())]
    if not possible:
        return None
    return element("p", f"You cannot {' or '.join(possible)} it: {why}.", class_="quiet")


def _form(action: Action, to: str, token: str) -> Html:
    form = element(
        "form",
        element("input", type="hidden", name="token", value=token),
        element("button", f"{action}".capitalize(), type="submit", class_=None if action is Action.RETRY else "grave"),
        element("span", MEANINGS[action], class_="quiet"),
        method="post",
        action=to,
    )
    if action is Action.RETRY:
        return form
    return element("details", join([element("summary", f"{action} this job".capitalize()), form]))


class Actions:
    """Does what is asked for, one after the other, in a thread of its own."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self._thread = settings, Threads(1, "actions")

    async def answer(self, request: Request, job: Job, action: Action) -> Response:
        """Do it, and lead back to the job. Raises Refusal where it cannot be done."""
        doing = asyncio.create_task(self._thread.do(_act, self._settings, job.job_id, action, request.state.user))
        done, _ = await asyncio.wait({doing}, timeout=PATIENCE_SECONDS)
        _log(request, f"job {job.job_id}: {action} by {request.state.user}")
        try:
            for finished in done:
                finished.result()
        except IngestError as error:
            if error.transient:
                raise
            raise Refusal(409, str(error)) from error
        # It is below the job; what a proxy has taken off the path stays where it is.
        return RedirectResponse(f"../{job.job_id}", 303)


def _act(settings: Settings, job_id: int, action: Action, user: str) -> None:
    with open_store(settings, new=False) as store:
        connecting = partial(connect, settings, store)
        if action is Action.RETRY and store.get(job_id).will_be_tried_again:
            store.hasten(job_id)
        elif action is Action.RETRY:
            store.retry(job_id)
        elif action is Action.DISCARD:
            discard(store, job_id, settings.timings, connecting)
        else:
            cancel(store, job_id, f"cancelled by {user}", settings.timings, connecting)


async def token_in(request: Request) -> str:
    """The token that a form brings. Raises Refusal where the request is none of a form."""
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/x-www-form-urlencoded":
        raise Refusal(415, "what a page asks for comes as application/x-www-form-urlencoded")
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > MOST_BYTES:
            raise Refusal(413, "the form is too long")
    return parse_qs(body.decode("latin-1")).get("token", [""])[0]


def _log(request: Request, what: str) -> None:
    print(one_line(f"ingest: {what}"), file=sys.stderr, flush=True)
