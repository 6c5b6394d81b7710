"""The settings of a site: built once, then frozen."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..errors import SettingsError
from .cluster import Cluster, PostgresUrl, cluster_of, no_database, postgres_url_of
from .defaults import Defaults, defaults_of
from .endpoint import Endpoint, service_of
from .forms import bytes_of, header_name_of, number_of, path_of, printable_of, refuse_quotes, seconds_of, switch_of
from .notifications import Notifications, notifications_of
from .options import (
    ARCHIVE_URL,
    AUTH_HEADER,
    CATALOG_URL,
    CONFIRM,
    DATABASE,
    DATABASE_URL,
    DEFAULT_USER,
    DIGEST,
    DOCUMENT_LIMIT,
    PACK_BELOW,
    POLICY_URL,
    REMOTE_SOURCES,
    RETRIES,
    SERVICE_TIMEOUT,
    SHARED_SPOOL,
    THREADS,
    TRANSFERS,
    UNIQUEID_URL,
    VOLUME_PATH,
    Option,
)
from .s3 import ObjectStore, S3Access, object_store_of, s3_access_of
from .server import ServerAccess, server_access_of
from .timings import Timings, timings_of
from .upload import UploadSettings, upload_settings_of
from .values import POSTGRES, Value, homeless, read_values, where
from .watch import WatchSettings, watch_settings_of

Confirm = Literal["sample", "all"]
Digest = Literal["none", "blake3"]
MAX_TRANSFERS = 64
# What is larger is better off in an object of its own.
MOST_PACKED_BYTES = 1 << 20
# Where each file waits for a server, of which many can wait at once.
USUAL_TRANSFERS_TO_S3 = 16
USUAL_THREADS = 4
MOST_RETRIES = 1000
MAX_DOCUMENT_MIB = 1 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """Everything that can be set. Paths are absolute.

    A service is a Path where it is embedded and an Endpoint where it is reached over HTTP; job store, ids and catalogue
    may be in a PostgreSQL database, and the archive in storage that speaks S3, which is reached as ``s3`` says.
    ``policy`` is None where every document is allowed. ``document_bytes`` is how long a document may be, and
    ``service_timeout`` how many seconds an Endpoint may take. ``transfers``, ``remote_sources`` and ``confirm`` are of
    an archive that is no folder: how many files it takes at once, whether it alone sees the files that are to be moved,
    and of which files it is asked for the size that it stored. ``threads`` is how many threads write into an archive
    that is a folder, and read from it; ``digest`` is the second one that it keeps of each file. Smaller files than of
    ``pack_below`` bytes are packed together in storage that speaks S3. ``spool`` is this
    host's own spool folder, and ``shared_spool`` where the servers of several hosts keep what they receive.
    """

    database: Path | PostgresUrl
    spool: Path
    shared_spool: ObjectStore | None
    user: str
    auth_header: str
    service_timeout: float
    document_bytes: int
    unique_id: Path | Endpoint | PostgresUrl
    policy: Path | Endpoint | None
    archive: Path | Endpoint | ObjectStore
    catalog: Path | Endpoint | PostgresUrl
    transfers: int
    threads: int
    remote_sources: bool
    confirm: Confirm
    digest: Digest
    pack_below: int
    s3: S3Access | None
    server: ServerAccess
    notifications: Notifications
    upload: UploadSettings
    defaults: Defaults
    watch: WatchSettings
    cluster: Cluster
    timings: Timings
    values: tuple[Value, ...]

    def where(self, option: Option) -> str:
        """Where an option was set, for messages."""
        return next(where(value) for value in self.values if value.option == option)


def load_settings(
    *,
    config: str | os.PathLike[str] | None = None,
    flags: Mapping[Option, str | None] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Settings:
    """Build the settings. ``environment`` is the process's own unless given. Raises SettingsError."""
    return settings_of(
        read_values(config=None if config is None else Path(config), flags=flags, environment=environment)
    )


def settings_of(effective: tuple[Value, ...]) -> Settings:
    """Build the settings from the value of every option. Raises SettingsError."""
    if wanted := homeless(effective):
        raise SettingsError(wanted)
    for value in effective:
        refuse_quotes(value)
    values = {value.option: value for value in effective}
    archive = object_store_of(values[ARCHIVE_URL]) or service_of(values, ARCHIVE_URL)
    remote_sources = switch_of(values[REMOTE_SOURCES])
    if remote_sources and isinstance(archive, Path):
        raise SettingsError(f"{where(values[REMOTE_SOURCES])}: the archive {archive} is on this machine, not remote")
    catalog = postgres_url_of(values[CATALOG_URL]) or service_of(values, CATALOG_URL)
    database = _database(values[DATABASE], values[DATABASE_URL])
    shared_spool = _shared_spool(values[SHARED_SPOOL], database, archive)
    return Settings(
        database=database,
        spool=path_of(values[VOLUME_PATH]),
        shared_spool=shared_spool,
        user=printable_of(values[DEFAULT_USER]),
        auth_header=header_name_of(values[AUTH_HEADER]),
        service_timeout=seconds_of(values[SERVICE_TIMEOUT]),
        document_bytes=number_of(values[DOCUMENT_LIMIT], 1, MAX_DOCUMENT_MIB) << 20,
        unique_id=postgres_url_of(values[UNIQUEID_URL]) or service_of(values, UNIQUEID_URL),
        policy=service_of(values, POLICY_URL) if values[POLICY_URL].text else None,
        archive=archive,
        catalog=catalog,
        transfers=_transfers(values[TRANSFERS], archive),
        threads=number_of(values[THREADS], 1, MAX_TRANSFERS) if values[THREADS].text else usual_threads(),
        remote_sources=remote_sources,
        confirm=_confirm(values[CONFIRM]),
        digest=_digest(values[DIGEST]),
        pack_below=bytes_of(values[PACK_BELOW], MOST_PACKED_BYTES),
        s3=s3_access_of(values) if shared_spool is not None or isinstance(archive, ObjectStore) else None,
        server=server_access_of(values),
        notifications=notifications_of(values, is_catalog_embedded=not isinstance(catalog, Endpoint)),
        upload=upload_settings_of(values),
        defaults=defaults_of(values),
        watch=watch_settings_of(values),
        cluster=cluster_of(values),
        timings=timings_of(number_of(values[RETRIES], 0, MOST_RETRIES)),
        values=effective,
    )


def usual_threads() -> int:
    """How many threads pay: one for each core, but no more than can read or write before they wait for one another."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(USUAL_THREADS, cores)


def _database(path: Value, url: Value) -> Path | PostgresUrl:
    if path.text.startswith(POSTGRES):
        raise SettingsError(f"{where(path)} is a file: give a URL as {DATABASE_URL.key} ({DATABASE_URL.variable})")
    if not url.text or url.rank < path.rank:
        return path_of(path)
    found = postgres_url_of(url)
    if found is None:
        raise no_database(url)
    return found


def _transfers(value: Value, archive: Path | Endpoint | ObjectStore) -> int:
    if value.text:
        return number_of(value, 1, MAX_TRANSFERS)
    return USUAL_TRANSFERS_TO_S3 if isinstance(archive, ObjectStore) else 1


def _shared_spool(
    value: Value, database: Path | PostgresUrl, archive: Path | Endpoint | ObjectStore
) -> ObjectStore | None:
    if not value.text:
        return None
    place = object_store_of(value)
    if place is None:
        raise SettingsError(f"{where(value)}: {value.shown!r} is not s3://BUCKET/PREFIX")
    if isinstance(database, Path):
        url = f"[{DATABASE_URL.section}] {DATABASE_URL.key} ({DATABASE_URL.variable})"
        raise SettingsError(f"{where(value)} needs a job store on PostgreSQL: set {url}")
    if isinstance(archive, ObjectStore) and place.overlaps(archive):
        raise SettingsError(f"{where(value)}: {place} and the archive {archive} lie one in the other")
    return place


def _confirm(value: Value) -> Confirm:
    match value.text:
        case "sample" | "all" as choice:
            return choice
    raise SettingsError(f"{where(value)}: {value.text!r} is neither sample nor all")


def _digest(value: Value) -> Digest:
    match value.text:
        case "none" | "blake3" as choice:
            return choice
    raise SettingsError(f"{where(value)}: {value.text!r} is neither none nor blake3")
