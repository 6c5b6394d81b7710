"""What Pacifica's clients are told of a job, in every state that it can be in."""

import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest_cli.client.waiting import deferred_until, is_complete
from ingest_cli.jobs.job import UNFINISHED, Job, JobKind, JobState, Override, PacificaState
from ingest_cli.jobs.process import this_process
from ingest_cli.jobs.stages import INGEST_FILES, INGEST_METADATA, STAGES

from ..support.a_job import a_job

WHY = "the archive at http://archive does not answer"
LATER = r"it will be tried again at (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) UTC; do not send it again"
SOON = "it will be tried again at 2026-11-28 14:05:07 UTC, or as soon as a worker is free; do not send it again"
ENDINGS = [None, JobState.FAILED, JobState.DISCARDED, JobState.DUPLICATE]
REASONS = ["", WHY, f"{WHY}\nrolled back later, since it is down"]


@st.composite
def jobs(draw: Callable[[st.SearchStrategy[Any]], Any]) -> Job:
    """Jobs as the store may hold them, their task and percent as its transitions leave them."""
    state = draw(st.sampled_from(JobState))
    undo_to = draw(st.sampled_from(ENDINGS[1:])) if state is JobState.UNDOING else None
    is_held = state is JobState.RUNNING or (state is JobState.UNDOING and draw(st.booleans()))
    recorded = JobState.DUPLICATE in (state, undo_to) or state is JobState.COMPLETE
    return a_job(
        state,
        undo_to=undo_to,
        kind=draw(st.sampled_from(JobKind)),
        task=INGEST_METADATA if recorded else draw(st.sampled_from(STAGES)),
        task_percent=100 if recorded else draw(st.floats(0, 99)),
        exception="" if recorded else draw(st.sampled_from(REASONS)),
        successor=7 if JobState.DUPLICATE in (state, undo_to) or state is JobState.SUPERSEDED else None,
        holder=this_process() if is_held else None,
        retry_at=0 if is_held else draw(st.sampled_from([0, 1, time.time() - 5, time.time() + 600])),
    )


def ended(shown: dict[str, Any]) -> bool:
    """What pacifica-cli and pacifica-uploader wait for."""
    at_the_end = shown["task"] == INGEST_METADATA and int(float(shown["task_percent"])) == 100
    return shown["state"] != "OK" or at_the_end


@given(jobs())
def test_clients_stop_waiting_when_nobody_works_on_it_and_not_before(job: Job) -> None:
    at_work = job.state is JobState.RUNNING or (job.state is JobState.QUEUED and not job.is_deferred)
    assert ended(job.as_state()) is not at_work


@given(jobs())
def test_what_is_complete_has_come_to_its_end(job: Job) -> None:
    shown = job.as_state()
    assert shown["complete"] is (job.state not in UNFINISHED or job.undo_to is JobState.DUPLICATE)
    assert not shown["complete"] or ended(shown)


@given(jobs())
def test_what_is_ok_and_complete_is_in_the_catalogue_and_nothing_else_is(job: Job) -> None:
    shown = job.as_state()
    recorded = job.is_done or job.undo_to is JobState.DUPLICATE
    assert ((shown["state"], shown["complete"]) == ("OK", True)) is recorded


@given(jobs())
def test_our_own_client_waits_for_a_deferred_job_and_for_no_other_that_failed(job: Job) -> None:
    shown = job.as_state()
    assert (deferred_until(shown) is not None) is (job.state is JobState.QUEUED and job.is_deferred)
    assert is_complete(shown) is (shown["state"] == "OK" and shown["complete"])


@given(jobs())
def test_a_client_is_told_not_to_send_again_what_will_be_tried_again(job: Job) -> None:
    shown = job.as_state()
    assert shown["exception"].startswith(job.exception)
    will_be = job.state is JobState.QUEUED and job.is_deferred
    assert shown["exception"].endswith("do not send it again") is will_be
    assert not will_be or (shown["state"], shown["complete"]) == ("FAILED", False)


def test_a_deferred_job_says_why_and_when() -> None:
    due = time.time() + 60
    shown = a_job(JobState.QUEUED, task=INGEST_FILES, exception=WHY, retry_at=due).as_state()
    why, _, when = shown["exception"].partition("\n")
    assert (shown["state"], shown["task"], shown["complete"], why) == ("FAILED", INGEST_FILES, False, WHY)
    told = re.fullmatch(LATER, when)
    assert told is not None, when
    assert datetime.fromisoformat(f"{told[1]}+00:00") == datetime.fromtimestamp(int(due), UTC)


def test_a_job_that_is_due_waits_for_a_worker() -> None:
    due = datetime(2026, 11, 28, 14, 5, 7, tzinfo=UTC).timestamp()
    shown = a_job(JobState.QUEUED, exception=WHY, retry_at=due).as_state()
    assert shown["exception"] == f"{WHY}\n{SOON}"


def test_a_deferred_job_is_ok_again_while_it_runs() -> None:
    job = a_job(JobState.RUNNING, task=INGEST_FILES, holder=this_process(), attempts=2)
    shown = job.as_state()
    assert (shown["state"], shown["complete"], shown["exception"]) == ("OK", False, "")


@pytest.mark.parametrize("state", [JobState.DUPLICATE, JobState.UNDOING])
@pytest.mark.parametrize("retry_at", [0, 1])
def test_a_duplicate_names_the_job_that_it_duplicates(state: JobState, retry_at: float) -> None:
    undo_to = JobState.DUPLICATE if state is JobState.UNDOING else None
    shown = a_job(state, undo_to=undo_to, successor=12, retry_at=retry_at).as_state()
    assert (shown["state"], shown["task"], shown["task_percent"]) == ("OK", INGEST_METADATA, "100.00000")
    assert shown["exception"] == "the same bundle was ingested before as job 12"


def test_a_move_that_was_done_before_says_that_its_sources_are_left() -> None:
    shown = a_job(JobState.DUPLICATE, kind=JobKind.MOVE, successor=12).as_state()
    assert shown["exception"].startswith("the same document was ingested before as job 12")
    assert shown["exception"].endswith("its sources are left where they are")


def test_a_folder_that_was_ingested_before_may_be_stored_as_several_jobs() -> None:
    shown = a_job(JobState.DUPLICATE, kind=JobKind.FOLDER, successor=12).as_state()
    assert shown["exception"] == "all that is in the folder was ingested before, the last of it as job 12"


@pytest.mark.parametrize("state", JobState)
def test_an_administrator_hides_the_state_but_not_whether_it_has_ended(state: JobState) -> None:
    job = a_job(state, override=Override(PacificaState.FAILED, INGEST_FILES, 3, "by hand"), retry_at=1, successor=7)
    shown = job.as_state()
    assert (shown["state"], shown["task"], shown["exception"]) == ("FAILED", INGEST_FILES, "by hand")
    assert shown["complete"] is (state not in UNFINISHED)
