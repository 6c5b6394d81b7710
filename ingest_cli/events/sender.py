"""Sends what waits in the outbox: in the background of what runs for long, and briefly at the end of a command.

An event that was not taken is sent again after a backoff, for as long as the receiver's answer deserves; then it is
given up, which is told, and sent again only where a person asks for it.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field

from ..errors import IngestError, JobNotRecorded
from ..jobs.heart import Heart
from ..jobs.outbox import LONGEST_WAIT_SECONDS, RENEWAL_SECONDS, Notice
from ..jobs.store import JobStore, open_store
from ..services import factory
from ..settings import ReceiverKind, Settings
from .message import document, message
from .receivers import REFUSED_PATIENCE_SECONDS, NotReceived, Receiver, receivers_of

# However patient one is, a few attempts there are: a clock may be wrong, and nobody may have sent for long.
FEWEST_ATTEMPTS = 3
# A receiver that is back is found after a minute at the latest.
LONGEST_ABSENCE_SECONDS = 60.0
# How long a command stays for events once its jobs have ended: less than it may take to end after a signal.
LAST_SECONDS = 2.0
# How long one that is told to end waits for an answer that may be just coming.
STOPPED_SECONDS = 0.3

Tell = Callable[[str], None]

log = logging.getLogger(__name__)


@dataclass
class Tally:
    """What became of events: how many were sent, wait for another attempt, and were given up."""

    sent: int = 0
    waiting: int = 0
    given_up: int = 0
    reasons: list[str] = field(default_factory=list)


@dataclass
class _Absence:
    """A receiver is away since so many attempts, and is not tried until then, by the monotonic clock."""

    attempts: int = 0
    until: float = 0.0


class Sender:
    """Sends the events of a site, from one thread. ``tell`` is told, in sentences, what a person should know."""

    def __init__(self, settings: Settings, tell: Tell) -> None:
        self._settings, self._tell = settings, tell
        self._receivers: dict[ReceiverKind, Receiver] = receivers_of(settings.notifications)
        self._away: dict[ReceiverKind, _Absence] = {}
        # One thread says of whatever is being sent that it is: it may be large, and its receiver slow.
        self._heart = Heart(RENEWAL_SECONDS)
        self._stopped = threading.Event()

    def stop(self) -> None:
        """End what `send` is at, as soon as that can be; from another thread."""
        self._stopped.set()
        for receiver in self._receivers.values():
            receiver.abandon()

    def send(self, store: JobStore) -> Tally:
        """Send what waits and is due, each once. A receiver that is away is left alone after the first attempt, and
        for some time."""
        now = time.monotonic()
        tally = Tally()
        left = [kind for kind in self._receivers if kind not in self._away or self._away[kind].until <= now]
        try:
            while left and not self._stopped.is_set():
                notice = store.outbox.lease_next(left)
                if notice is None:
                    break
                if not self._send(store, notice, tally):
                    left.remove(notice.receiver)
        finally:
            self._heart.end()
        return tally

    def _send(self, store: JobStore, notice: Notice, tally: Tally) -> bool:
        """Whether the receiver takes events: it may refuse this one."""
        try:
            with self._heart.beating(store, lambda another: another.outbox.renew(notice)):
                self._deliver(notice)
        except NotReceived as error:
            if self._stopped.is_set():
                store.outbox.release(notice)
                return False
            # The receiver has taken another one since this one failed: it is not the receiver.
            is_away = error.is_outage and not notice.is_hastened
            self._put_back(store, notice, error, tally, is_away=is_away)
            return not is_away
        except BaseException:
            store.outbox.release(notice)
            raise
        store.outbox.sent(notice)
        tally.sent += 1
        log.info("job %d: %s has the event %r", notice.job_id, self._receivers[notice.receiver].name, notice.kind)
        if self._away.pop(notice.receiver, None) is not None:
            self._tell(f"{self._receivers[notice.receiver].name} receives events again")
        return True

    def _deliver(self, notice: Notice) -> None:
        """Have the receiver take the event. Raises NotReceived, whatever there was in the way."""
        settings = self._settings
        try:
            with ExitStack() as stack:
                records = None
                if notice.kind == "ingest":
                    records = document(
                        stack.enter_context(closing(factory.catalog(settings, new=False))), notice.job_id
                    )
                ready = stack.enter_context(message(notice, settings.notifications, records, settings.spool))
                self._receivers[notice.receiver].deliver(ready)
        except NotReceived:
            raise
        except JobNotRecorded as error:
            raise NotReceived(str(error), patience=REFUSED_PATIENCE_SECONDS, is_outage=False) from error
        except IngestError as error:
            raise NotReceived(str(error)) from error
        except Exception as error:
            # One that is odd must not stand in the way of all others.
            log.error("job %d: an unexpected error, which is worth a report", notice.job_id, exc_info=error)
            raise NotReceived(f"unexpected error: {type(error).__name__}: {error}", is_outage=False) from error

    def _put_back(self, store: JobStore, notice: Notice, error: NotReceived, tally: Tally, *, is_away: bool) -> None:
        tally.reasons.append(str(error))
        which = f"the event {notice.kind} of job {notice.job_id}"
        log.info("job %d: %s", notice.job_id, error)
        # Once an outage: another process may have told of it.
        is_told = not is_away or store.outbox.has_outage(notice.receiver)
        if is_away:
            self._note_absence(notice.receiver, error.wait)
        is_old = time.time() - notice.since >= error.patience and notice.attempts >= FEWEST_ATTEMPTS
        if is_old or not error.patience:
            store.outbox.give_up(notice, str(error))
            tally.given_up += 1
            self._tell(f"{which} is given up: {error}; 'ingest events --resend {notice.number}' sends it again")
            return
        store.outbox.retry(notice, str(error), max(error.wait, self._backoff(notice)), is_outage=is_away)
        tally.waiting += 1
        if not is_told:
            self._tell(f"events wait: {error}")

    def _note_absence(self, receiver: ReceiverKind, at_least: float) -> None:
        """Have the receiver left alone: of all that waits for it, one event at a time finds out whether it is back."""
        absence = self._away.setdefault(receiver, _Absence())
        absence.attempts += 1
        wait = self._settings.timings.first_backoff * 2.0 ** min(absence.attempts - 1, 20)
        absence.until = time.monotonic() + max(at_least, min(LONGEST_ABSENCE_SECONDS, wait))

    def _backoff(self, notice: Notice) -> float:
        return min(LONGEST_WAIT_SECONDS, self._settings.timings.first_backoff * 2.0 ** min(notice.attempts - 1, 20))


@contextmanager
def sending(settings: Settings, tell: Tell, *, last: float = LAST_SECONDS) -> Iterator[None]:
    """Send events from a thread for as long as a ``with`` block lasts, and ``last`` seconds more where it ends well.

    What is not sent by then waits for the next process that sends. Does nothing where nobody is to be sent any.
    """
    if not settings.notifications.receivers:
        yield
        return
    background = _Background(settings, tell)
    try:
        yield
    except BaseException:
        background.stop()
        raise
    background.end(last)


class _Background:
    """A thread that sends until it is told to end."""

    def __init__(self, settings: Settings, tell: Tell) -> None:
        self._settings, self._sender = settings, Sender(settings, tell)
        self._ending = threading.Event()
        # Waited for in place of the thread: a join that a signal interrupts takes the thread for ended (bpo-45274).
        self._ended = threading.Event()
        try:
            threading.Thread(target=self._run, name="events", daemon=True).start()
        except RuntimeError as error:  # what waits is sent by another process
            log.info("no events are sent: %s", error)
            self._ended.set()

    def end(self, seconds: float) -> None:
        """Have it send what waits, but for no longer than so many seconds; a signal ends that, and nothing else."""
        self._ending.set()
        with suppress(KeyboardInterrupt):
            self._ended.wait(seconds)
        if not self._ended.is_set():
            self.stop()

    def stop(self) -> None:
        """End it at once, or nearly so."""
        self._sender.stop()
        self._ending.set()
        self._ended.wait(STOPPED_SECONDS)

    def _run(self) -> None:
        try:
            while not self._is_done():
                self._ending.wait(self._settings.timings.pause)
        finally:
            self._ended.set()

    def _is_done(self) -> bool:
        """Send what comes until told to end; False where that cannot be done now."""
        is_last = self._ending.is_set()
        try:
            with open_store(self._settings, new=False) as store:
                while True:
                    is_last = self._ending.is_set()
                    self._sender.send(store)
                    if is_last:
                        return True
                    self._ending.wait(self._settings.timings.poll)
        except Exception as error:
            log.info("events could not be sent: %s", error, exc_info=not isinstance(error, IngestError))
        return is_last
