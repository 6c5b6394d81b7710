"""What can be done to a job in a store, who may do it, and from which states to which it leads."""

from collections.abc import Callable

from ingest_cli.jobs.job import Fence, JobState, Override, PacificaState
from ingest_cli.jobs.process import this_process
from ingest_cli.jobs.stages import INGEST_FILES
from ingest_cli.jobs.store import JobStore
from ingest_cli.jobs.transitions import TRANSITIONS, Event

WISH = Override(PacificaState.FAILED, INGEST_FILES, 0.0, "by hand")
RERUN = Override(PacificaState.OK, INGEST_FILES, 0.0, "")
REASON = "the disk is broken\nand this is the second line"
Change = Callable[[JobStore, Fence], object]

# What a holder does: the events that it may be, and how it is done.
BY_FENCE: dict[str, tuple[set[Event], Change]] = {
    "heartbeat": ({Event.PROGRESS}, lambda store, fence: store.heartbeat(fence, 50.0)),
    "enter": ({Event.PROGRESS}, lambda store, fence: store.enter(fence, INGEST_FILES)),
    "identify": ({Event.PROGRESS}, lambda store, fence: store.identify(fence, "other", 3, 30)),
    "checkpoint": ({Event.PROGRESS}, lambda store, fence: store.checkpoint(fence, 1)),
    "requeue": ({Event.REQUEUE}, lambda store, fence: store.requeue(fence)),
    "defer": ({Event.DEFER}, lambda store, fence: store.defer(fence, INGEST_FILES, REASON, 30.0)),
    "exhaust": ({Event.EXHAUST}, lambda store, fence: store.exhaust(fence, INGEST_FILES, REASON)),
    "undo": (
        {Event.UNDO, Event.ABANDON},
        lambda store, fence: store.undo(fence, JobState.FAILED, INGEST_FILES, REASON),
    ),
    "rolled_back": ({Event.ROLLED_BACK}, lambda store, fence: store.rolled_back(fence)),
    "hold": ({Event.HOLD}, lambda store, fence: store.hold(fence, "file 7 stays")),
    "record": ({Event.RECORDED}, lambda store, fence: store.record(fence)),
}
# What anyone does, where no living process holds the job.
BY_ANYONE: dict[str, tuple[set[Event], Callable[[JobStore, int], object]]] = {
    "lease": ({Event.LEASE, Event.LEASE_AGAIN}, lambda store, job_id: store.lease(job_id)),
    "end": (
        {Event.DISCARD, Event.UNDO, Event.ABANDON, Event.LEASE_AGAIN},
        lambda store, job_id: store.end(job_id, JobState.DISCARDED, holder=this_process()),
    ),
    "hasten": ({Event.HASTEN}, lambda store, job_id: store.hasten(job_id)),
    "override": ({Event.OVERRIDE}, lambda store, job_id: store.override(job_id, WISH)),
    "cancel": ({Event.CANCEL}, lambda store, job_id: store.cancel(job_id, WISH)),
}


def sources_of(events: set[Event]) -> set[JobState]:
    return {state for event in events for state in TRANSITIONS[event].sources}


def targets_of(events: set[Event], state: JobState) -> set[JobState]:
    ways = [TRANSITIONS[event] for event in events if state in TRANSITIONS[event].sources]
    return {target for way in ways for target in way.targets or {state}}
