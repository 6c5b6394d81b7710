"""The events that tell others of jobs."""

import logging
from collections.abc import Sequence

from ..events.resend import require_receivers, resend
from ..events.sender import Sender, Tally
from ..jobs.outbox import Notice, NoticeStatus
from ..jobs.store import open_store
from ..settings import Settings, load_settings

log = logging.getLogger(__name__)


def list_events(
    count: int, *, job_id: int | None = None, given_up: bool = False, settings: Settings | None = None
) -> list[Notice]:
    """The newest ``count`` events that were or are to be sent, the newest last; of one job, or that were given up."""
    statuses = [NoticeStatus.GIVEN_UP] if given_up else list(NoticeStatus)
    with open_store(settings or load_settings(), new=False) as store:
        return store.outbox.newest(count, job_id=job_id, statuses=statuses)


def count_events(*, settings: Settings | None = None) -> dict[NoticeStatus, int]:
    """How many events there are of each status."""
    with open_store(settings or load_settings(), new=False) as store:
        return store.outbox.tallies()


def resend_events(
    numbers: Sequence[int] = (),
    *,
    job_id: int | None = None,
    given_up: bool = False,
    settings: Settings | None = None,
) -> Tally:
    """Send events again: those of the ``numbers``, those of a job, and those that were ``given_up``, if asked.

    Whatever else waits is sent with them. Returns what became of all of these.
    """
    settings = settings or load_settings()
    with open_store(settings, new=False) as store:
        resend(store, settings.notifications, numbers, job_id=job_id, failed=given_up)
    return send_events(settings=settings)


def send_events(*, settings: Settings | None = None) -> Tally:
    """Send the events that wait and are due, each once, and return what became of them."""
    settings = settings or load_settings()
    require_receivers(settings.notifications)
    with open_store(settings, new=False) as store:
        return Sender(settings, log.info).send(store)
