"""The four services that the pipeline talks to, chosen by the settings."""

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from ..settings import Settings
from .base import Archive, Catalog, Policy, Services, UniqueId


@contextmanager
def connect(settings: Settings) -> Iterator[Services]:
    """The services that ``settings`` name. Raises StoreError or SettingsError where one cannot be opened."""
    with ExitStack() as stack:
        yield Services(
            unique_id=stack.enter_context(closing(unique_id(settings))),
            policy=stack.enter_context(closing(policy(settings))),
            archive=stack.enter_context(closing(archive(settings))),
            catalog=stack.enter_context(closing(catalog(settings))),
        )


def unique_id(settings: Settings) -> UniqueId:
    """The id service."""
    if isinstance(settings.unique_id, Path):
        from .embedded.uniqueid import EmbeddedUniqueId

        return EmbeddedUniqueId(settings.unique_id, settings.timings.busy)
    from .pacifica.uniqueid import PacificaUniqueId

    return PacificaUniqueId(settings.unique_id)


def policy(settings: Settings) -> Policy:
    """The policy."""
    if settings.policy is None or isinstance(settings.policy, Path):
        from .embedded.policy import EmbeddedPolicy

        return EmbeddedPolicy(settings.policy)
    from .pacifica.policy import PacificaPolicy

    return PacificaPolicy(settings.policy, settings.auth_header)


def archive(settings: Settings) -> Archive:
    """The archive."""
    if isinstance(settings.archive, Path):
        from .embedded.archive import EmbeddedArchive

        return EmbeddedArchive(settings.archive)
    from .pacifica.archive import PacificaArchive
    from .slots import Slots

    return PacificaArchive(
        settings.archive,
        transfers=settings.transfers,
        remote_sources=settings.remote_sources,
        confirm=settings.confirm,
        slots=Slots(settings.database.with_name(f"{settings.database.name}-transfer"), settings.transfers),
    )


def catalog(settings: Settings) -> Catalog:
    """The catalogue."""
    if isinstance(settings.catalog, Path):
        from .embedded.catalog import EmbeddedCatalog

        return EmbeddedCatalog(settings.catalog, settings.timings.busy)
    from .pacifica.catalog import PacificaCatalog

    return PacificaCatalog(settings.catalog)
