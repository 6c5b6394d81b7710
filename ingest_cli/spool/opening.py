"""Opens the spool that several hosts share, where a site has one."""

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
    try:
        from .shared import SharedSpool
    except ImportError as error:
        wanted = "pip install 'pacifica-ingest-cli[cluster]'"
        raise SettingsError(f"{settings.where(SHARED_SPOOL)} needs: {wanted} ({error})") from error
    return SharedSpool.of(settings)
