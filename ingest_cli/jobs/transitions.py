"""The transitions of a job, in one table: it drives the store's statements, the tests and the manual's table."""

from dataclasses import dataclass
from enum import Enum, StrEnum

from .job import JobState

QUEUED, RUNNING, UNDOING, HELD = JobState.QUEUED, JobState.RUNNING, JobState.UNDOING, JobState.HELD
FAILED, DISCARDED, COMPLETE = JobState.FAILED, JobState.DISCARDED, JobState.COMPLETE
DUPLICATE, SUPERSEDED = JobState.DUPLICATE, JobState.SUPERSEDED


class Event(StrEnum):
    """What causes a transition."""

    LEASE = "lease"
    LEASE_AGAIN = "lease again"
    PROGRESS = "progress"
    REQUEUE = "requeue"
    DEFER = "defer"
    EXHAUST = "attempts used up"
    UNDO = "undo"
    ABANDON = "undo nothing"
    ROLLED_BACK = "rolled back"
    HOLD = "cannot roll back"
    RECORDED = "recorded"
    DISCARD = "discard"
    RETRY = "retry"
    HASTEN = "retry now"
    SUPERSEDE = "supersede"
    OVERRIDE = "override"
    CANCEL = "cancel"


class Actor(Enum):
    """Who may cause an event."""

    HOLDER = "the holder, by its fence"
    NEW_HOLDER = "a worker or a command, which becomes the holder"
    NEXT_HOLDER = "whoever saw the holder die, and becomes the holder"
    ANYONE = "anyone"


@dataclass(frozen=True, slots=True)
class Transition:
    """By ``event`` a job in one of ``sources`` comes into one of ``targets``; without any it stays as it is.

    ``request`` is what a person is told that cannot be done to a job that is in no such state: "cannot be ...".
    """

    event: Event
    sources: frozenset[JobState]
    targets: frozenset[JobState]
    actor: Actor
    request: str
    meaning: str


WAITING = {QUEUED, UNDOING}
ENDINGS = {FAILED, DISCARDED, DUPLICATE}


def _way(
    event: Event, sources: set[JobState], targets: set[JobState], actor: Actor, request: str, meaning: str
) -> tuple[Event, Transition]:
    return event, Transition(event, frozenset(sources), frozenset(targets), actor, request, meaning)


AT_WORK = {RUNNING, UNDOING}
TRANSITIONS = dict(
    [
        _way(
            Event.LEASE,
            {QUEUED},
            {RUNNING},
            Actor.NEW_HOLDER,
            "run",
            "a run begins, or resumes what an earlier one stored",
        ),
        _way(Event.LEASE_AGAIN, AT_WORK, set(), Actor.NEXT_HOLDER, "run", "a run resumes the work of one that died"),
        _way(Event.PROGRESS, AT_WORK, set(), Actor.HOLDER, "run", "stage, heartbeat, reservation, files stored"),
        _way(Event.REQUEUE, AT_WORK, WAITING, Actor.HOLDER, "requeued", "interrupted; what is stored is kept"),
        _way(
            Event.DEFER,
            AT_WORK,
            WAITING,
            Actor.HOLDER,
            "deferred",
            "failed for now, or must wait; what is stored is kept",
        ),
        _way(Event.EXHAUST, {QUEUED, RUNNING}, {HELD, FAILED}, Actor.ANYONE, "failed", "too many attempts"),
        _way(
            Event.UNDO,
            {RUNNING},
            {UNDOING},
            Actor.HOLDER,
            "rolled back",
            "failed for good, or a duplicate, with files stored",
        ),
        _way(
            Event.ABANDON,
            {RUNNING},
            ENDINGS,
            Actor.HOLDER,
            "failed",
            "failed for good, or a duplicate, with nothing stored",
        ),
        _way(
            Event.ROLLED_BACK,
            {UNDOING},
            ENDINGS,
            Actor.HOLDER,
            "noted as rolled back",
            "nothing of it is left in the archive, durably",
        ),
        _way(Event.HOLD, {UNDOING}, {HELD}, Actor.HOLDER, "held", "something could not be rolled back"),
        _way(Event.RECORDED, AT_WORK, {COMPLETE}, Actor.HOLDER, "completed", "the catalogue has recorded it"),
        _way(
            Event.DISCARD,
            {QUEUED, HELD, FAILED},
            {UNDOING, DISCARDED, FAILED},
            Actor.NEW_HOLDER,
            "discarded",
            "an administrator abandons it, or sets it to FAILED",
        ),
        _way(Event.RETRY, {FAILED, HELD}, {QUEUED}, Actor.ANYONE, "retried", "an administrator runs it again"),
        _way(Event.HASTEN, {QUEUED}, set(), Actor.ANYONE, "retried now", "somebody has a deferred job wait no longer"),
        _way(
            Event.SUPERSEDE,
            {QUEUED, RUNNING, HELD, FAILED},
            {SUPERSEDED},
            Actor.NEXT_HOLDER,
            "superseded",
            "another job with the same document takes over what it stored",
        ),
        _way(
            Event.OVERRIDE,
            set(JobState),
            set(),
            Actor.ANYONE,
            "set by hand",
            "an administrator sets its state; a holder carries it out",
        ),
        _way(
            Event.CANCEL,
            {RUNNING},
            set(),
            Actor.ANYONE,
            "cancelled",
            "somebody cancels it; its holder rolls it back to be discarded",
        ),
    ]
)
