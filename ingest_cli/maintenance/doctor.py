"""Checks everything that a job needs, and says what to do where a check fails."""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from stat import S_IROTH
from typing import IO

from rich.filesize import decimal

from ..bundle.content import SHARED_BLOCK
from ..disk import existing, explained, free_bytes, require_writable, scratch
from ..errors import ExitCode, IngestError, SettingsError, SourceError, StoreError
from ..events.receivers import NotReceived, Receiver, receivers_of
from ..jobs.database import NothingThere
from ..jobs.job import Job
from ..jobs.neighbours import is_to_be_made
from ..jobs.outbox import NoticeStatus
from ..jobs.store import JobStore, open_store
from ..services import factory
from ..services.base import Service
from ..settings import Option, PostgresUrl, ReceiverKind, Settings
from ..settings.options import (
    ARCHIVE_URL,
    CATALOG_URL,
    DATABASE,
    DATABASE_URL,
    DIGEST,
    NOTIFICATIONS_COMMAND,
    NOTIFICATIONS_URL,
    POLICY_URL,
    SERVICES,
    SHARED_SPOOL,
    UNIQUEID_URL,
    VOLUME_PATH,
)
from ..spool.opening import look_at_shared
from ..text import counted

# A clock may be set back by this much without anyone noticing.
CLOCK_SLACK = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check: ``detail`` in a line, and ``advice`` unless it is ``ok``."""

    name: str
    detail: str
    ok: bool = True
    advice: str = ""
    exit_code: ExitCode = ExitCode.SUCCESS


class _Outdated(NothingThere):
    """The job store is as an older version of the program left it."""


def diagnose(settings: Settings) -> Iterator[Finding]:
    """Check the job store, the clock, the spool folder, the four services, drop folders, and who is sent events; who
    can read secrets; and what several hosts share.

    Nothing is stored, and nothing is made: what the first job will make is not there yet.
    """
    for file in _exposed(settings):
        detail = f"{file} holds a password or a token, and every user of this machine can read it"
        yield Finding("config file", detail, ok=False, advice=f"chmod o= {file}", exit_code=ExitCode.FAILED)
    option = DATABASE if isinstance(settings.database, Path) else DATABASE_URL
    store = finding("job store", lambda: _check_store(settings), _setting(option))
    yield store
    if store.ok:
        yield finding("clock", lambda: _check_clock(settings), "set this machine's clock")
        if isinstance(settings.database, PostgresUrl):
            yield from _diagnose_cluster(settings, settings.database)
    yield finding("spool folder", lambda: _check_spool(settings), _setting(VOLUME_PATH))
    if settings.shared_spool is not None:
        yield finding("shared spool", lambda: look_at_shared(settings), _setting(SHARED_SPOOL))
    for option in SERVICES.values():
        yield diagnose_service(settings, option)
    if settings.digest != "none" and isinstance(settings.archive, Path):
        yield finding("digests", partial(_check_digests, settings.archive), _setting(DIGEST))
    for folder in filter(None, (*settings.watch.folders, settings.watch.done)):
        advice = "make it, or mount its disk, and let this account write to it"
        yield finding("drop folder", partial(_check_drop_folder, folder), advice)
    for name, receiver in receivers_of(settings.notifications).items():
        option = NOTIFICATIONS_URL if name == "url" else NOTIFICATIONS_COMMAND
        yield finding("events", partial(_check_receiver, settings, name, receiver), _setting(option))


def _exposed(settings: Settings) -> list[Path]:
    """The configuration files with secrets that everyone can read."""
    holding = {Path(value.origin) for value in settings.values if value.text and value.shown != value.text}
    return sorted(file for file in holding if file.is_absolute() and file.is_file() and file.stat().st_mode & S_IROTH)


def _diagnose_cluster(settings: Settings, url: PostgresUrl) -> Iterator[Finding]:
    """Check what several hosts share."""
    from . import cluster

    room = "raise max_connections, or let PgBouncer share them"
    yield finding("database", lambda: cluster.check_database(url), room)
    poll = "set [database] listen = no, or let workers reach the server itself"
    yield finding("wake-up", lambda: cluster.check_listening(settings, url), poll)
    yield finding("clocks", lambda: cluster.check_clock(url), "have both follow the same time server")
    for name, detail, advice in cluster.check_hosts(settings, url):
        yield Finding(name, detail, not advice, advice, ExitCode.FAILED if advice else ExitCode.SUCCESS)


def diagnose_service(settings: Settings, option: Option) -> Finding:
    """Check the one of the four services whose URL the option is."""
    name, check = SERVICE_CHECKS[option]
    return finding(name, lambda: check(settings), _setting(option))


def _setting(option: Option) -> str:
    return f"see [{option.section}] {option.key}, or {option.variable}, in the output of 'ingest config'"


def finding(name: str, check: Callable[[], str], advice: str) -> Finding:
    """The result of ``check``, which says what it found or raises IngestError; ``advice`` is for the latter."""
    try:
        return Finding(name, check())
    except IngestError as error:
        return Finding(name, str(error), ok=False, advice=advice, exit_code=error.exit_code)


def _ping(service: Service) -> str:
    with closing(service):
        return service.ping()


def _ping_or_nothing(place: object, opened: Callable[[], Service]) -> str:
    try:
        return _ping(opened())
    except NothingThere:
        return f"{place}: nothing there yet"


def _check_archive(settings: Settings) -> str:
    with ExitStack() as stack:
        try:
            memory = stack.enter_context(_opened(settings))
        except IngestError:  # its own check says why
            memory = None
        if isinstance(settings.database, Path) and not settings.database.parent.exists():
            # Where a store is not there yet, nobody else sends to its archive.
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            settings = replace(settings, database=Path(folder, settings.database.name))
        archive = stack.enter_context(closing(factory.archive(settings, memory)))
        detail, free = archive.ping(), archive.free_bytes()
    return detail if free is None else f"{detail}: {decimal(free)} free"


def _check_digests(archive: Path) -> str:
    """Whether a second digest is kept of each file that is stored. No job fails where it is not."""
    from ..services.embedded.noted import can_be_noted, is_usable

    if not is_usable():
        raise SettingsError("no BLAKE3 is kept: there is no package blake3, or the system has no extended attributes")
    if not archive.is_dir():
        return _not_there_yet(archive)
    try:
        if can_be_noted(archive):
            return "BLAKE3 is kept of each file that is stored"
    except OSError as error:
        raise explained(error, f"cannot write into {archive}", SourceError, archive) from error
    raise SettingsError(f"no BLAKE3 is kept: the disk of {archive} takes no extended attributes of users")


def _check_ids(settings: Settings) -> str:
    if isinstance(settings.unique_id, Path) and is_to_be_made(settings, UNIQUEID_URL, new=True):
        return _not_there_yet(settings.unique_id)
    return _ping_or_nothing(settings.unique_id, lambda: factory.unique_id(settings, new=False))


def _check_catalog(settings: Settings) -> str:
    if isinstance(settings.catalog, Path) and is_to_be_made(settings, CATALOG_URL, new=True):
        return _not_there_yet(settings.catalog)
    return _ping_or_nothing(settings.catalog, lambda: factory.catalog(settings, new=False))


def _check_policy(settings: Settings) -> str:
    return _ping(factory.policy(settings))


SERVICE_CHECKS = {
    UNIQUEID_URL: ("ids", _check_ids),
    POLICY_URL: ("policy", _check_policy),
    ARCHIVE_URL: ("archive", _check_archive),
    CATALOG_URL: ("catalogue", _check_catalog),
}


def _check_receiver(settings: Settings, name: ReceiverKind, receiver: Receiver) -> str:
    waits = ""
    with suppress(IngestError), _opened(settings) as store:  # its own check says what is wrong with it
        number, oldest = store.outbox.waiting(name)
        if oldest is not None:
            waits = f"; {counted(number, 'event')} waiting, the oldest since {oldest[:16]} UTC"
        if given_up := store.outbox.tallies(name)[NoticeStatus.GIVEN_UP]:
            waits += f"; {counted(given_up, 'event')} given up, which 'ingest events --failed' lists"
    try:
        return f"{receiver.ping()}{waits}"
    except NotReceived as error:
        raise NotReceived(f"{error}{waits}") from error


def _check_store(settings: Settings) -> str:
    if isinstance(settings.database, Path) and is_to_be_made(settings, DATABASE, new=True):
        return _not_there_yet(settings.database)
    try:
        opened = _opened(settings)
    except _Outdated as outdated:
        return str(outdated)
    except NothingThere:
        return f"{settings.database}: nothing there yet"
    with opened as store:
        problems = store.check_integrity()
        if problems:
            raise StoreError(f"the job store {settings.database} is damaged: {problems}")
        return f"{settings.database}: {counted(store.count(), 'job')}"


def _opened(settings: Settings) -> JobStore:
    """The site's job store. Of one that many hosts share no look brings the tables up to date, which concerns all."""
    if isinstance(settings.database, PostgresUrl):
        from . import cluster

        if outdated := cluster.outdated(settings.database):
            raise _Outdated(outdated)
    return open_store(settings, new=False)


def _check_clock(settings: Settings) -> str:
    now = datetime.now(UTC).replace(tzinfo=None)
    if not isinstance(settings.database, Path) or settings.database.exists():
        with suppress(NothingThere), _opened(settings) as store:
            _require_past(store.select(limit=1), now)
    return f"{now:%Y-%m-%d %H:%M:%S} UTC"


def _require_past(jobs: list[Job], now: datetime) -> None:
    for job in jobs:
        if datetime.fromisoformat(job.updated) > now + CLOCK_SLACK:
            changed = f"job {job.job_id} was last changed at {job.updated[:16]} UTC"
            raise StoreError(f"it is {now:%Y-%m-%d %H:%M} UTC here, but {changed}")


def _check_spool(settings: Settings) -> str:
    spool = settings.spool
    if not os.path.lexists(spool):
        return _not_there_yet(spool)
    with scratch(spool, [bytes(SHARED_BLOCK)], SourceError) as file:
        return f"{spool}: {decimal(free_bytes(spool))} free{_sharing(settings, file)}"


def _sharing(settings: Settings, spooled: IO[bytes]) -> str:
    """Whether the bytes of what is spooled can be shared with the archive, or could be if it lay on its disk."""
    if not isinstance(settings.archive, Path) or not settings.archive.is_dir():
        return ""
    with (
        suppress(IngestError),  # its own check says why
        closing(factory.archive(settings)) as archive,
    ):
        if archive.shares(spooled.fileno()):
            return "; uploads are stored without a second copy"
        with scratch(settings.archive, [bytes(SHARED_BLOCK)], SourceError) as file:
            if archive.shares(file.fileno()):
                return "; uploads would be stored without a second copy if it were on the archive's disk"
    return ""


def _check_drop_folder(folder: Path) -> str:
    try:
        require_writable(folder)
    except OSError as error:
        raise explained(error, f"cannot write into {folder}", SourceError, folder) from error
    return str(folder)


def _not_there_yet(path: Path) -> str:
    try:
        require_writable(existing(path))
    except OSError as error:
        raise explained(error, f"cannot make {path}", StoreError, path) from error
    return f"{path}: not there yet"
