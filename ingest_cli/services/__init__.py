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
            unique_id=_unique_id(settings.unique_id, stack),
            policy=_policy(settings.policy, settings.auth_header, stack),
            archive=_archive(settings.archive, stack),
            catalog=_catalog(settings.catalog, stack),
        )


def _unique_id(place: Path | str, stack: ExitStack) -> UniqueId:
    if isinstance(place, Path):
        from .embedded.uniqueid import EmbeddedUniqueId

        return stack.enter_context(closing(EmbeddedUniqueId(place)))
    from .pacifica import PacificaUniqueId

    return stack.enter_context(closing(PacificaUniqueId(place)))


def _policy(place: Path | str | None, auth_header: str, stack: ExitStack) -> Policy:
    if place is None or isinstance(place, Path):
        from .embedded.policy import EmbeddedPolicy

        return EmbeddedPolicy(place)
    from .pacifica import PacificaPolicy

    return stack.enter_context(closing(PacificaPolicy(place, auth_header)))


def _archive(place: Path | str, stack: ExitStack) -> Archive:
    if isinstance(place, Path):
        from .embedded.archive import EmbeddedArchive

        return EmbeddedArchive(place)
    from .pacifica import PacificaArchive

    return stack.enter_context(closing(PacificaArchive(place)))


def _catalog(place: Path | str, stack: ExitStack) -> Catalog:
    if isinstance(place, Path):
        from .embedded.catalog import EmbeddedCatalog

        return stack.enter_context(closing(EmbeddedCatalog(place)))
    from .pacifica import PacificaCatalog

    return stack.enter_context(closing(PacificaCatalog(place)))
