"""Checks everything that a job needs, and says what to do where a check fails."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO

from rich.filesize import decimal

from ..errors import ExitCode, IngestError, SourceError, StoreError
from ..jobs.store import open_store
from ..services import factory
from ..services.base import Service
from ..settings import ARCHIVE_URL, CATALOG_URL, DATABASE, POLICY_URL, UNIQUEID_URL, VOLUME_PATH, Option, Settings
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


def diagnose(settings: Settings) -> Iterator[Finding]:
    """Check the job store, the clock, the spool folder and the four services. Nothing is stored."""
    store = finding("job store", lambda: _check_store(settings), _setting(DATABASE))
    yield store
    if store.ok:
        yield finding("clock", lambda: _check_clock(settings), "set this machine's clock")
    yield finding("spool folder", lambda: _check_spool(settings.spool), _setting(VOLUME_PATH))
    yield finding("ids", lambda: _ping(factory.unique_id(settings)), _setting(UNIQUEID_URL))
    yield finding("policy", lambda: _ping(factory.policy(settings)), _setting(POLICY_URL))
    yield finding("archive", lambda: _check_archive(settings), _setting(ARCHIVE_URL))
    yield finding("catalogue", lambda: _ping(factory.catalog(settings)), _setting(CATALOG_URL))


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


def _check_archive(settings: Settings) -> str:
    with closing(factory.archive(settings)) as archive:
        detail, free = archive.ping(), archive.free_bytes()
    return detail if free is None else f"{detail}: {decimal(free)} free"


def _check_store(settings: Settings) -> str:
    with open_store(settings) as store:
        problems = store.check_integrity()
        if problems:
            raise StoreError(f"the job store {settings.database} is damaged: {problems}")
        return f"{settings.database}: {counted(store.count(), 'job')}"


def _check_clock(settings: Settings) -> str:
    now = datetime.now(UTC).replace(tzinfo=None)
    with open_store(settings) as store:
        for job in store.newest(1):
            if datetime.fromisoformat(job.updated) > now + CLOCK_SLACK:
                changed = f"job {job.job_id} was last changed at {job.updated[:16]} UTC"
                raise StoreError(f"it is {now:%Y-%m-%d %H:%M} UTC here, but {changed}")
    return f"{now:%Y-%m-%d %H:%M:%S} UTC"


def _check_spool(spool: Path) -> str:
    with spooled(spool, b"ingest"):
        return f"{spool}: {decimal(shutil.disk_usage(spool).free)} free"


@contextmanager
def spooled(spool: Path, content: bytes) -> Iterator[IO[bytes]]:
    """A file that holds ``content`` and is gone afterwards."""
    with ExitStack() as stack:
        try:
            spool.mkdir(parents=True, exist_ok=True, mode=0o700)
            file = stack.enter_context(tempfile.TemporaryFile(dir=spool))
            file.write(content)
            file.flush()
        except OSError as error:
            raise SourceError(f"cannot write into {spool}: {error.strerror}") from error
        yield file
