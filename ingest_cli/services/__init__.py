"""The four services that the pipeline talks to, chosen by the settings."""

from ..settings import Settings
from .base import Services


def connect(settings: Settings) -> Services:
    """The services that ``settings`` name. Raises StoreError or SettingsError where one cannot be opened."""
    from .embedded.archive import EmbeddedArchive
    from .embedded.catalog import EmbeddedCatalog
    from .embedded.policy import EmbeddedPolicy
    from .embedded.uniqueid import EmbeddedUniqueId

    return Services(
        unique_id=EmbeddedUniqueId(settings.unique_id),
        policy=EmbeddedPolicy(settings.policy),
        archive=EmbeddedArchive(settings.archive),
        catalog=EmbeddedCatalog(settings.catalog),
    )
