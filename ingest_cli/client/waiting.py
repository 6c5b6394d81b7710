"""Waiting for a job at the server: what its answers mean, and how often it is asked."""

import re
import time
from contextlib import suppress
from typing import Any

from ..errors import IngestError, Unavailable
from .observer import State, UploadObserver
from .retries import Retries
from .server import IngestServer

FIRST_SECONDS = 0.1
LONGEST_SECONDS = 10.0
GROWTH = 1.3
LAST_STAGE = "ingest metadata"
# What Pacifica's servers do not tell of a job, and what each may be.
DETAILS: dict[str, type] = {"status": str, "files": int, "bytes": int, "duplicate_of": int}
# How the exception of a job ends that the server runs again by itself.
DEFERRED = re.compile(r"it will be tried again (.+); do not send it again\s*$")


class JobFailed(IngestError):
    """The job at the server has failed for good; this is its ``state``."""

    def __init__(self, message: str, state: State) -> None:
        super().__init__(message)
        self.state = state


class NotYet(Unavailable):
    """The job has not ended for as long as it was to be waited for; this is its ``state``. It goes on at the server."""

    def __init__(self, message: str, state: State) -> None:
        super().__init__(message)
        self.state = state


class JobUnknown(IngestError):
    """The server does not know the job that it made."""


def is_complete(state: State) -> bool:
    """Whether the job has ended successfully."""
    return state.get("state") == "OK" and state.get("task") == LAST_STAGE and percent_of(state) >= 100


def deferred_until(state: State) -> str | None:
    """When the server will run a job again that failed for now; None where it is another one."""
    found = DEFERRED.search(str(state.get("exception") or ""))
    return found[1] if found and not is_complete(state) else None


def has_failed(state: State) -> bool:
    """Whether the job has failed for good."""
    return state.get("state") != "OK" and deferred_until(state) is None


def percent_of(state: State) -> float:
    """How much of its stage the job has done."""
    return _number(state.get("task_percent"))


def detailed(server: IngestServer, state: State) -> State:
    """The state of a job with all that the server tells of it; what it does not tell is None."""
    found: State | None = None
    with suppress(IngestError):
        found = server.details(state["job_id"])
    told = found or {"status": _status_of(state)}
    return {
        **state,
        **{name: told.get(name) if type(told.get(name)) is kind else None for name, kind in DETAILS.items()},
    }


def wait(server: IngestServer, job_id: int, retries: Retries, observer: UploadObserver, limit: float | None) -> State:
    """Ask the server until the job has ended; its last state.

    Raises JobFailed where it failed for good, JobUnknown, NotYet where it has not ended after ``limit`` seconds, and
    what the server raises for longer than ``retries`` allow.
    """
    begun, pause = time.monotonic(), FIRST_SECONDS
    while True:
        state = _ask(server, job_id, retries)
        if is_complete(state):
            return state
        if has_failed(state):
            raise failure_of(state)
        observer.waiting(state)
        left = None if limit is None else limit - (time.monotonic() - begun)
        if left is not None and left <= 0:
            raise NotYet(_not_yet(state), state)
        time.sleep(pause if left is None else min(pause, left))
        pause = min(LONGEST_SECONDS, pause * GROWTH)


def failure_of(state: State) -> JobFailed:
    """The error for a job that failed for good."""
    why, *more = str(state.get("exception") or "the server does not say why").split("\n")
    error = JobFailed(f"job {state['job_id']} failed at {str(state.get('task'))!r}: {why}", state)
    for line in more:
        error.add_note(line)
    return error


def _ask(server: IngestServer, job_id: int, retries: Retries) -> State:
    while True:
        try:
            state = server.state(job_id)
        except Unavailable as error:
            error.add_note(f"job {job_id} goes on there; the same command waits for it")
            retries.wait(error, getattr(error, "at_least", 0.0))
        else:
            retries.worked()
            if state is None:
                raise JobUnknown(f"the server does not know job {job_id}")
            return state


def _status_of(state: State) -> str | None:
    """The state in a word, as far as it can be told by what every server answers."""
    if "state" not in state:
        return None
    if is_complete(state):
        return "complete"
    return "failed" if has_failed(state) else "deferred" if deferred_until(state) else "running"


def _not_yet(state: State) -> str:
    until = deferred_until(state)
    where = f"is deferred, and will be tried again {until}" if until else f"is at {str(state.get('task'))!r}"
    return f"job {state['job_id']} {where}; it goes on at the server, and the same command waits for it again"


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return 0.0
