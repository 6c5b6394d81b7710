"""Opens the spool that several hosts share, where a site has one."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from ..errors import SettingsError
from ..settings import Settings
from ..settings.options import SHARED_SPOOL

if TYPE_CHECKING:
    from .shared import SharedSpool


def open_shared(settings: Settings) -> "SharedSpool | None":
    """The site's shared spool; None where its spool is a folder. Raises SettingsError, ResourceUnavailable and
    StoreError."""
    if settings.shared_spool is None:
        return None
    with _needing_packages(settings):
        from .shared import SharedSpool
    return SharedSpool.of(settings)


def look_at_shared(settings: Settings) -> str:
    """Look whether the storage of the shared spool answers, and return what it is called. Nothing is written.

    Raises SettingsError, ServiceUnavailable, and ArchiveError where it refuses.
    """
    assert settings.shared_spool is not None, "the site's spool is a folder"
    assert settings.s3 is not None
    with _needing_packages(settings):
        from ..services.s3.bucket import Bucket
    with closing(Bucket(settings.shared_spool, settings.s3, 1)) as bucket:
        next(bucket.keys("", "list uploads"), None)
    return f"{settings.shared_spool} at {settings.s3.endpoint}"


@contextmanager
def _needing_packages(settings: Settings) -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        wanted = "pip install 'pacifica-ingest-cli[cluster]'"
        raise SettingsError(f"{settings.where(SHARED_SPOOL)} needs: {wanted} ({error})") from error
