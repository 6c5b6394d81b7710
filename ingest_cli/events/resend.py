"""What a person asks to be sent again."""

from collections.abc import Sequence

from ..errors import IngestError, SettingsError
from ..jobs.job import JobState
from ..jobs.outbox import NoticeStatus
from ..jobs.store import JobStore
from ..settings import Notifications

# More events than a job can have, and than a person looks through.
MOST = 1_000_000


def require_receivers(notifications: Notifications) -> None:
    """Raise SettingsError where nobody is to be sent events."""
    if not notifications.receivers:
        raise SettingsError("nobody is to be sent events: set [notifications] url or command (NOTIFICATIONS_URL)")


def resend(
    store: JobStore, notifications: Notifications, numbers: Sequence[int], *, job_id: int | None, failed: bool
) -> None:
    """Have events sent again: those of the ``numbers``, those of the job, and those that were given up, if ``failed``.

    A recorded job that was never announced is announced now. Raises IngestError where there is no such event.
    """
    require_receivers(notifications)
    found = set(store.outbox.resend(numbers))
    if missing := [number for number in numbers if number not in found]:
        raise IngestError(f"there is no event {missing[0]}")
    if failed:
        given_up = store.outbox.newest(MOST, statuses=[NoticeStatus.GIVEN_UP])
        store.outbox.resend([notice.number for notice in given_up])
    if job_id is not None:
        _resend_of(store, notifications, job_id)


def _resend_of(store: JobStore, notifications: Notifications, job_id: int) -> None:
    job = store.get(job_id)
    of_job = [notice.number for notice in store.outbox.newest(MOST, job_id=job_id)]
    if of_job:
        store.outbox.resend(of_job)
    elif job.state is JobState.COMPLETE:
        store.outbox.announce(job, notifications.receivers)
    else:
        raise IngestError(f"job {job_id} has no events: it is {job.state}")
