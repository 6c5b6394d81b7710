"""Whether anybody is at work in an installation that is to be moved."""

import time

from ...errors import JobBusy
from ...jobs.job import JobState
from ...jobs.sightings import Member, Sightings
from ...jobs.store import JobStore
from ...settings import Timings

LOOK_SECONDS = 0.2


def require_idle(store: JobStore, timings: Timings) -> set[tuple[int, int]]:
    """Raise JobBusy where a process lives that holds a job, or says that it is there; wait until that is known.

    Returns the jobs that dead ones hold, each with its fence.
    """
    sightings = Sightings(timings.stale)
    while True:
        leases = {job.fence for job in store.in_states({JobState.RUNNING, JobState.UNDOING}) if job.holder is not None}
        members = sightings.of(store)
        if living := next((member for member in members if member.is_alive), None):
            raise JobBusy(f"{_said(living)}: end the workers, servers and watchers first")
        if all(member.is_alive is False for member in members):
            return {(fence.job_id, fence.number) for fence in leases}
        time.sleep(LOOK_SECONDS)


def _said(member: Member) -> str:
    if member.jobs:
        return f"job {member.jobs[0]} is being worked on by {member.process}"
    role = member.presence.role if member.presence is not None else "process"
    return f"a {role} is at work, process {member.process.pid} of {member.host}"
