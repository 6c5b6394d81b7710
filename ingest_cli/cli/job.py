"""``ingest job``: an administrator settles a job by hand."""

from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import SettingsError
from .command import command
from .completion import job_ids, states
from .options import MAX_PRIORITY, Output, Site

if TYPE_CHECKING:
    from ..jobs.job import Override


@command
def job(
    job_id: Annotated[
        int, typer.Option("--job-id", help="The job to change.", metavar="JOB_ID", autocompletion=job_ids)
    ],
    state: Annotated[
        str | None, typer.Option("--state", help="OK or FAILED.", metavar="STATE", autocompletion=states)
    ] = None,
    task: Annotated[
        str | None, typer.Option("--task", help="The stage, such as 'ingest files'.", metavar="STAGE")
    ] = None,
    task_percent: Annotated[
        float | None,
        typer.Option("--task-percent", help="How much of the stage is done, 0 to 100.", metavar="PERCENT"),
    ] = None,
    exception: Annotated[
        str, typer.Option("--exception", help="The reason that 'ingest state' shows.", metavar="TEXT")
    ] = "",
    priority: Annotated[
        int | None,
        typer.Option(
            "--priority",
            min=0,
            max=MAX_PRIORITY,
            help="In place of a state: how urgent the job is, from 0 to 100. Needs a job store on PostgreSQL.",
            metavar="NUMBER",
        ),
    ] = None,
    *,
    site: Site,
    output: Output,
) -> None:
    """Set the state of a job by hand, or its priority.

    FAILED rolls back what an incomplete job has stored; OK runs a failed job again. A process working on
    the job stops.
    """
    if priority is not None and state is None and task is None and task_percent is None:
        _prioritize(job_id, priority, site, output)
    elif priority is None and state is not None and task is not None and task_percent is not None:
        _settle(job_id, override_of(state, task, task_percent, exception), site, output)
    else:
        raise SettingsError("give --state, --task and --task-percent, or --priority")


def _prioritize(job_id: int, priority: int, site: Site, output: Output) -> None:
    from .. import api
    from ..jobs.fields import job_fields
    from .output import say, write_json

    changed = api.prioritize_job(job_id, priority, settings=site.settings)
    if output.json:
        write_json(job_fields(changed))
    else:
        say(f"job {job_id}: priority {priority}")


def _settle(job_id: int, override: "Override", site: Site, output: Output) -> None:
    from .. import api
    from ..jobs.fields import job_fields
    from ..jobs.job import JobState, PacificaState
    from .output import notify, say, warn, write_json

    changed = api.set_job_state(job_id, override, tell=warn, settings=site.settings)
    shown = changed.as_state()
    if output.json:
        write_json(job_fields(changed))
    else:
        say(f"job {job_id}: {shown['state']} at {shown['task']!r}")
    if changed.state is JobState.HELD:
        notify(f"job {job_id} is held: {changed.exception.splitlines()[-1]}")
    elif changed.holder is not None:
        does = (
            "what is stored is rolled back" if override.state is PacificaState.FAILED else "the job is run again later"
        )
        notify(f"{changed.holder} stops working on it now, and {does}")


def override_of(state: str, task: str, task_percent: float, exception: str) -> "Override":
    """What an administrator sets by these options. Raises SettingsError where there is no such state or stage."""
    from ..jobs.job import Override, PacificaState
    from ..jobs.stages import STAGES

    if state not in PacificaState.__members__:
        raise SettingsError(f"--state {state!r} is not a state; it is one of {', '.join(PacificaState)}")
    if task not in STAGES:
        raise SettingsError(f"--task {task!r} is not a stage; it is one of {', '.join(map(repr, STAGES))}")
    if not 0 <= task_percent <= 100:
        raise SettingsError(f"--task-percent {task_percent} is not between 0 and 100")
    return Override(PacificaState(state), task, task_percent, exception)
