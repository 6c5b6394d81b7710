"""The four services that the pipeline talks to, chosen by the settings.

An embedded one that is ``new`` is made where there is none yet; where none may be made, SettingsError is raised.
"""

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ..disk import sync_file_system
from ..errors import SettingsError
from ..jobs.group_commit import Shared
from ..jobs.neighbours import introduce, is_to_be_made
from ..settings import ObjectStore, PostgresUrl, Settings
from ..settings.options import CATALOG_URL, UNIQUEID_URL
from .base import Archive, Catalog, Memory, Policy, Services, UniqueId

if TYPE_CHECKING:
    from .slots import Slots


@contextmanager
def connect(
    settings: Settings, memory: Memory | None = None, *, new: bool = True, shared: Shared | None = None
) -> Iterator[Services]:
    """The services that ``settings`` name; ``memory`` is of the archive, which is any that is there without it.
    Threads write to ``shared`` ones together.

    Raises StoreError or SettingsError where one cannot be opened, ResourceUnavailable where that may pass.
    """
    with ExitStack() as stack:
        yield Services(
            unique_id=stack.enter_context(closing(unique_id(settings, new=new, shared=shared))),
            policy=stack.enter_context(closing(policy(settings))),
            archive=stack.enter_context(closing(archive(settings, memory, shared=shared))),
            catalog=stack.enter_context(closing(catalog(settings, new=new, shared=shared))),
        )


def unique_id(settings: Settings, *, new: bool = True, shared: Shared | None = None) -> UniqueId:
    """The id service."""
    if isinstance(settings.unique_id, Path):
        from .embedded.uniqueid import EmbeddedUniqueId

        new = is_to_be_made(settings, UNIQUEID_URL, new=new, shared=shared)
        ids = EmbeddedUniqueId(settings.unique_id, settings.timings.busy, new=new, shared=shared)
        introduce(settings, UNIQUEID_URL, shared)
        return ids
    if isinstance(settings.unique_id, PostgresUrl):
        from ..jobs.postgres_connections import pool_of
        from .postgres.uniqueid import PostgresUniqueId

        return PostgresUniqueId(pool_of(settings.unique_id, shared), settings.timings.busy, new=new)
    from .pacifica.uniqueid import PacificaUniqueId

    return PacificaUniqueId(settings.unique_id)


def policy(settings: Settings) -> Policy:
    """The policy."""
    if settings.policy is None or isinstance(settings.policy, Path):
        from .embedded.policy import EmbeddedPolicy

        return EmbeddedPolicy(settings.policy)
    from .pacifica.policy import PacificaPolicy

    return PacificaPolicy(settings.policy, settings.auth_header)


def archive(settings: Settings, memory: Memory | None = None, *, shared: Shared | None = None) -> Archive:
    """The archive that ``memory`` is of; without it, any that is there."""
    if isinstance(settings.archive, Path):
        from .embedded.archive import EmbeddedArchive

        sync = sync_file_system if shared is None else shared.sync
        return EmbeddedArchive(
            settings.archive, memory, sync, transfers=settings.threads, notes=settings.digest == "blake3"
        )
    if isinstance(settings.archive, ObjectStore):
        assert settings.s3 is not None
        try:
            from .s3.archive import S3Archive
        except ImportError as error:
            wanted = "pip install 'pacifica-ingest-cli[cluster]'"
            raise SettingsError(f"{settings.archive} needs: {wanted} ({error})") from error
        return S3Archive(
            settings.archive, settings.s3, memory, transfers=settings.transfers, pack_below=settings.pack_below
        )
    from .pacifica.archive import PacificaArchive

    return PacificaArchive(
        settings.archive,
        transfers=settings.transfers,
        remote_sources=settings.remote_sources,
        confirm=settings.confirm,
        slots=_slots(settings),
    )


def _slots(settings: Settings) -> "Slots":
    """What limits the transfers of all processes that share a job store."""
    if isinstance(settings.database, PostgresUrl):
        from .postgres_slots import PostgresSlots

        return PostgresSlots(settings.database, "archive", settings.transfers, settings.timings)
    from .slots import FileSlots

    beside = settings.database
    return FileSlots(beside.with_name(f"{beside.name}-transfer"), settings.transfers)


def catalog(settings: Settings, *, new: bool = True, shared: Shared | None = None) -> Catalog:
    """The catalogue."""
    if isinstance(settings.catalog, Path):
        from .embedded.catalog import EmbeddedCatalog

        new = is_to_be_made(settings, CATALOG_URL, new=new, shared=shared)
        catalogue = EmbeddedCatalog(settings.catalog, settings.timings.busy, new=new, shared=shared)
        introduce(settings, CATALOG_URL, shared)
        return catalogue
    if isinstance(settings.catalog, PostgresUrl):
        from ..jobs.postgres_connections import pool_of
        from .postgres.catalog import PostgresCatalog

        return PostgresCatalog(pool_of(settings.catalog, shared), settings.timings.busy, new=new)
    from .pacifica.catalog import PacificaCatalog

    return PacificaCatalog(settings.catalog)
