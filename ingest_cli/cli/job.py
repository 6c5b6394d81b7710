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
    """Set the state of a job; a process that works on it stops.

    FAILED rolls back what is stored of a job that is not complete; OK has one that failed run again.
    """
    from functools import partial

    from ..jobs.job import JobState, PacificaState, Word
    from ..jobs.stages import STAGES
    from ..jobs.store import open_store
    from ..pipeline.settlement import settle_by_hand
    from ..services.factory import connect

    if state not in PacificaState.__members__:
        raise SettingsError(f"--state {state!r} is no state; it is one of {', '.join(PacificaState)}")
    if task not in STAGES:
        raise SettingsError(f"--task {task!r} is no stage; it is one of {', '.join(map(repr, STAGES))}")
    if not 0 <= task_percent <= 100:
        raise SettingsError(f"--task-percent {task_percent} is not between 0 and 100")
    settings, word = settings_of(config, db), Word(PacificaState(state), task, task_percent, exception)
    with open_store(settings) as store:
        changed = settle_by_hand(store, job_id, word, settings.timings, partial(connect, settings))
    shown = changed.as_state()
    print(json_format.dumps(shown) if json else f"job {job_id}: {shown['state']} at {shown['task']!r}")
    if changed.state is JobState.HELD:
        print(f"ingest: job {job_id} is held: {changed.exception.splitlines()[-1]}", file=sys.stderr)
    elif changed.holder is not None:
        does = "rolls back what it stored" if word.state is PacificaState.FAILED else "is run again later"
        print(f"ingest: {changed.holder} works on it: it stops now, and {does}", file=sys.stderr)
