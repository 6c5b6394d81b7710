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
    """Write, read and delete an object of the shared spool, and return what it is called.

    Raises SettingsError, ServiceUnavailable, and ArchiveError where the storage refuses.
    """
    assert settings.shared_spool is not None, "the site's spool is a folder"
    assert settings.s3 is not None
    with _needing_packages(settings):
        from ..services.s3.bucket import Bucket
        from ..services.s3.tryout import try_out
    with closing(Bucket(settings.shared_spool, settings.s3, 1)) as bucket:
        try_out(bucket)
    return f"{settings.shared_spool} at {settings.s3.endpoint}"


@contextmanager
def _needing_packages(settings: Settings) -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        wanted = "pip install 'pacifica-ingest-cli[cluster]'"
        raise SettingsError(f"{settings.where(SHARED_SPOOL)} needs: {wanted} ({error})") from error
