"""The ways a job can go, in one table: it drives the store's statements, the tests' machine and the manual's table."""

from dataclasses import dataclass
from enum import Enum, StrEnum

from .job import JobState

QUEUED, RUNNING, UNDOING, HELD = JobState.QUEUED, JobState.RUNNING, JobState.UNDOING, JobState.HELD
FAILED, DISCARDED, COMPLETE = JobState.FAILED, JobState.DISCARDED, JobState.COMPLETE
DUPLICATE, SUPERSEDED = JobState.DUPLICATE, JobState.SUPERSEDED


class Event(StrEnum):
    """What can happen to a job."""

    CLAIM = "claim"
    TAKE_OVER = "take over"
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
    SUPERSEDE = "supersede"
    SAY = "say"


class Actor(Enum):
    """Who may bring an event about."""

    HOLDER = "the holder, by its fence"
    CLAIMANT = "a worker or a command, which becomes the holder"
    HEIR = "who saw the holder die, and becomes the holder"
    ANYONE = "anyone"


@dataclass(frozen=True, slots=True)
class Transition:
    """By ``event`` a job in one of ``sources`` comes into one of ``targets``; without any it stays as it is."""

    event: Event
    sources: frozenset[JobState]
    targets: frozenset[JobState]
    actor: Actor
    meaning: str


def _way(
    event: Event, sources: set[JobState], targets: set[JobState], actor: Actor, meaning: str
) -> tuple[Event, Transition]:
    return event, Transition(event, frozenset(sources), frozenset(targets), actor, meaning)


WAITING = {QUEUED, UNDOING}
ENDINGS = {FAILED, DISCARDED, DUPLICATE}
TRANSITIONS = dict(
    [
        _way(Event.CLAIM, {QUEUED}, {RUNNING}, Actor.CLAIMANT, "a run begins, or resumes what an earlier one stored"),
        _way(Event.TAKE_OVER, {RUNNING, UNDOING}, set(), Actor.HEIR, "a run resumes what a dead one was at"),
        _way(Event.PROGRESS, {RUNNING, UNDOING}, set(), Actor.HOLDER, "stage, heartbeat, reservation, files stored"),
        _way(Event.REQUEUE, {RUNNING, UNDOING}, WAITING, Actor.HOLDER, "interrupted; what is stored stays"),
        _way(Event.DEFER, {RUNNING, UNDOING}, WAITING, Actor.HOLDER, "failed for now; what is stored stays"),
        _way(Event.EXHAUST, {QUEUED, RUNNING}, {HELD, FAILED}, Actor.ANYONE, "too many attempts"),
        _way(Event.UNDO, {RUNNING}, {UNDOING}, Actor.HOLDER, "failed for good, or a duplicate, with files stored"),
        _way(Event.ABANDON, {RUNNING}, ENDINGS, Actor.HOLDER, "failed for good, or a duplicate, with nothing stored"),
        _way(Event.ROLLED_BACK, {UNDOING}, ENDINGS, Actor.HOLDER, "the archive holds nothing of it, durably"),
        _way(Event.HOLD, {UNDOING}, {HELD}, Actor.HOLDER, "something could not be rolled back"),
        _way(Event.RECORDED, {RUNNING, UNDOING}, {COMPLETE}, Actor.HOLDER, "the catalogue has it"),
        _way(
            Event.DISCARD,
            {QUEUED, HELD, FAILED},
            {UNDOING, DISCARDED, FAILED},
            Actor.CLAIMANT,
            "an administrator gives it up, or fails it",
        ),
        _way(Event.RETRY, {FAILED, HELD}, {QUEUED}, Actor.ANYONE, "an administrator has it run again"),
        _way(
            Event.SUPERSEDE,
            {QUEUED, RUNNING, HELD, FAILED},
            {SUPERSEDED},
            Actor.HEIR,
            "another job of the same document takes over what it stored",
        ),
        _way(Event.SAY, set(JobState), set(), Actor.ANYONE, "an administrator's word; a holder carries it out"),
    ]
)
