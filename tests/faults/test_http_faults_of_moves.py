"""A site that fails at any request of a move, in any way: no source is lost, and the next healthy run ends it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from ingest_cli.errors import IngestError
from ingest_cli.jobs.job import JobKind, JobState
from ingest_cli.services.pacifica import http

from ..support.http_faults import FAULTS
from ..support.pacifica_double import Handler
from ..support.trials import Tally, Trial, Trials, may_go_on, sample

pytestmark = pytest.mark.sweep

Record = Callable[[str, object], None]


@pytest.fixture
def trials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trials:
    monkeypatch.setattr(http, "FIRST_PAUSE_SECONDS", 0.001)
    return Trials(tmp_path, INGEST_SERVICE_TIMEOUT="0.3")


def run(trial: Trial) -> IngestError | None:
    """The error that a run ends with, if any."""
    try:
        trial.site.ingest(Path(trial.words[-1]), kind=JobKind.MOVE)
    except IngestError as error:
        return error
    finally:
        trial.wait_for_services()
    return None


def requests_of(trials: Trials) -> int:
    with trials("move over HTTP") as trial:
        assert run(trial) is None
        trial.assert_sound(1, jobs=1)
        assert trial.pacific is not None
        return len(trial.pacific.requests)


@pytest.mark.parametrize("lasting", [False, True], ids=["once", "from then on"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_at_any_request_of_a_move(trials: Trials, fault: str, lasting: bool, record_property: Record) -> None:
    tally, name = Tally(), f"move over HTTP, {fault}, {'from a request on' if lasting else 'once'}"
    for number in sample(requests_of(trials), name):
        with tally.fault(f"{name}, request {number}"), trials("move over HTTP") as trial:
            pacific = trial.pacific
            assert pacific is not None
            pacific.guard = failing(pacific.requests, FAULTS[fault], number, lasting)
            ended = run(trial)
            pacific.guard = None
            try:
                assert_kept(trial, ended)
                jobs = trial.jobs()
                going_on = [job.job_id for job in jobs if may_go_on(job)]
                assert run(trial) is None
                trial.assert_sound(going_on[0] if going_on else None, jobs=max(1, len(jobs) + (not going_on)))
            except (AssertionError, IngestError) as error:
                raise AssertionError(f"after {ended!r} and {pacific.requests}: {error}") from error
    tally.close(record_property, name)


def failing(
    requests: list[tuple[str, str]], fault: Callable[[Handler], bool], number: int, lasting: bool
) -> Callable[[Handler], bool]:
    def guard(handler: Handler) -> bool:
        return (len(requests) >= number if lasting else len(requests) == number) and fault(handler)

    return guard


def assert_kept(trial: Trial, ended: IngestError | None) -> None:
    """No file is lost; what failed for good left nothing, or is named and can be gone on with."""
    trial.assert_nothing_lost()
    for job in trial.jobs():
        if job.state is JobState.FAILED:
            trial.assert_nothing_left(job.job_id)
        elif ended is not None and job.state is not JobState.COMPLETE:
            assert ended.transient or hasattr(ended, "__notes__")
