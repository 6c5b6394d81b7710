"""``ingest job``: an administrator settles a job by hand."""

import json as json_format
import sys
from typing import Annotated

import typer

from ..errors import SettingsError
from .completion import job_ids, states
from .options import Config, Db, Debug, Json, settings_of


def job(
    job_id: Annotated[int, typer.Option("--job-id", help="The job to change.", autocompletion=job_ids)],
    state: Annotated[str, typer.Option("--state", help="OK or FAILED.", autocompletion=states)],
    task: Annotated[str, typer.Option("--task", help="The stage, as 'ingest files'.")],
    task_percent: Annotated[float, typer.Option("--task-percent", help="How much of the stage is done, 0 to 100.")],
    exception: Annotated[str, typer.Option("--exception", help="Why, for those who ask for the state.")] = "",
    config: Config = None,
    db: Db = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Set the state of a job; a process that works on it stops."""
    from ..jobs import JobState, JobStore, is_alive
    from ..journal import STAGES

    if state not in JobState.__members__:
        raise SettingsError(f"--state {state!r} is no state; it is one of {', '.join(JobState)}")
    if task not in STAGES:
        raise SettingsError(f"--task {task!r} is no stage; it is one of {', '.join(map(repr, STAGES))}")
    if not 0 <= task_percent <= 100:
        raise SettingsError(f"--task-percent {task_percent} is not between 0 and 100")
    with JobStore(settings_of(config, db).database) as store:
        before = store.get(job_id)
        changed = store.set_state(job_id, JobState(state), task, task_percent, exception)
    print(json_format.dumps(changed.as_state()) if json else f"job {job_id}: {changed.state} at {changed.task!r}")
    if is_alive(before):
        print(f"ingest: {before.worker} works on it: it stops now, and takes back what it stored", file=sys.stderr)
    elif changed.first_file_id is not None and not changed.recorded:
        print(f"ingest: what is stored of it is kept: 'ingest retry {job_id}' goes on with it", file=sys.stderr)
