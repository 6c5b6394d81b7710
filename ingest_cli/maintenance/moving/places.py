"""Which databases an installation has, by its configuration or by its job store alone."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ...errors import SettingsError
from ...jobs.moved import MOVED
from ...jobs.neighbours import known_to
from ...jobs.sqlite_database import version_of
from ...jobs.sqlite_migrations import MIGRATIONS as JOB_MIGRATIONS
from ...services.embedded.catalog import MIGRATIONS as CATALOG_MIGRATIONS
from ...services.embedded.uniqueid import MIGRATIONS as ID_MIGRATIONS
from ...settings import Endpoint, Settings, settings_of
from ...settings.cluster import PostgresUrl, postgres_url_of
from ...settings.options import CATALOG_URL, DATABASE, UNIQUEID_URL
from ...settings.values import Value, places_in, values_in
from .side import Side, Standing
from .sqlite_side import SqliteSide
from .tables import CATALOG, IDS, JOBS, UPLOADS

Place = Path | PostgresUrl | Endpoint
MIGRATIONS = {JOBS: JOB_MIGRATIONS, IDS: ID_MIGRATIONS, CATALOG: CATALOG_MIGRATIONS}
CONFIGURATION = ".ini"
# What is left last can be used again last.
ORDER = (CATALOG, IDS, JOBS)


def source_of(text: str, settings: Settings) -> Settings:
    """The installation that is to be moved: its configuration file, or its job store.

    Ids and catalogue of a job store in a file are those that were used with it. Raises SettingsError.
    """
    if text.endswith(CONFIGURATION):
        return _configured(Path(text))
    place = _database_of(text)
    if isinstance(place, Path):
        return _with_neighbours(place, settings)
    return _together(place, settings)


def target_of(text: str, source: Settings) -> Settings:
    """The installation that it is to become: a configuration file that names its places, or the new job store.

    Ids and catalogue stand beside a job store in a file, under the usual names, and in the same database of a server.
    Raises SettingsError.
    """
    if text.endswith(CONFIGURATION):
        return _configured(Path(text))
    place = _database_of(text)
    if isinstance(place, PostgresUrl):
        return _together(place, source)
    if place.is_dir() or text.endswith(os.sep):
        place /= _usual_name(JOBS)
    return replace(
        source,
        database=place,
        unique_id=_beside(place, IDS, source.unique_id),
        catalog=_beside(place, CATALOG, source.catalog),
    )


def pairs_of(source: Settings, target: Settings) -> list[tuple[Side, Side]]:
    """The sides of each database that is to be moved, the job store last. Raises SettingsError where none is, and
    ResourceUnavailable."""
    pairs = _uploads_of(source, target)
    for what in ORDER:
        place, other = places_of(source)[what], places_of(target)[what]
        if _is_same(place, other):
            continue
        if isinstance(place, Endpoint) or isinstance(other, Endpoint):
            raise SettingsError(
                f"the {what} is not moved where it is a service over HTTP: {_shown(place)} to {_shown(other)}"
            )
        pairs.append((side_of(what, place, source), side_of(what, other, target)))
    if not pairs:
        raise SettingsError("nothing is to be moved: both name the same places")
    return pairs


def places_of(settings: Settings) -> dict[str, Place]:
    """Where the databases are, each by what it is for."""
    return {JOBS: settings.database, IDS: settings.unique_id, CATALOG: settings.catalog}


def side_of(what: str, place: Path | PostgresUrl, settings: Settings) -> Side:
    """The database for ``what`` at this place."""
    if isinstance(place, Path):
        return SqliteSide(what, place, MIGRATIONS[what], settings.timings.busy)
    from ...jobs.postgres_connections import pool_of
    from ...jobs.postgres_database import Migration
    from ...jobs.postgres_migrations import MIGRATIONS as POSTGRES_JOBS
    from ...services.postgres.catalog import MIGRATIONS as POSTGRES_CATALOG
    from ...services.postgres.uniqueid import MIGRATIONS as POSTGRES_IDS
    from ...spool.rows import MIGRATIONS as POSTGRES_UPLOADS
    from .postgres_side import PostgresSide

    migrations: dict[str, Sequence[Migration]] = {
        JOBS: POSTGRES_JOBS,
        IDS: POSTGRES_IDS,
        CATALOG: POSTGRES_CATALOG,
        UPLOADS: POSTGRES_UPLOADS,
    }
    return PostgresSide(what, pool_of(place), migrations[what], settings.timings.busy, settings.cluster)


def _uploads_of(source: Settings, target: Settings) -> list[tuple[Side, Side]]:
    """The sides of what a database knows of the spool that hosts share, and of carts: that stays with the jobs."""
    place, other = source.database, target.database
    if isinstance(place, Path) or isinstance(other, Path) or _is_same(place, other):
        return []
    left = side_of(UPLOADS, place, source)
    if left.find().standing is Standing.NOTHING:
        left.close()
        return []
    return [(left, side_of(UPLOADS, other, target))]


def _configured(path: Path) -> Settings:
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"cannot read {path}: {error}") from error
    # What the environment says is of one installation, not of two.
    return settings_of(values_in(text, path))


def _database_of(text: str) -> Path | PostgresUrl:
    if (url := postgres_url_of(Value(DATABASE, text, "command line"))) is not None:
        return url
    scheme, colon, rest = text.partition(":")
    if colon and scheme != "sqlite" and "/" not in scheme:
        raise SettingsError(f"{scheme!r} is no database: give a file, sqlite:PATH or postgresql://USER@HOST/DATABASE")
    # As others write it, sqlite:///relative and sqlite:////absolute, and as one would expect, sqlite:/absolute.
    path = rest.removeprefix("///") if colon else text
    if not path:
        raise SettingsError(f"{text!r} names no database")
    return Path(path).expanduser().absolute()


def _together(place: PostgresUrl, settings: Settings) -> Settings:
    """An installation whose databases are all in this one, but for those that are services."""
    ids, catalog = settings.unique_id, settings.catalog
    return replace(
        settings,
        database=place,
        unique_id=ids if isinstance(ids, Endpoint) else place,
        catalog=catalog if isinstance(catalog, Endpoint) else place,
    )


def _with_neighbours(path: Path, settings: Settings) -> Settings:
    """The installation of the job store at ``path``."""
    known = known_to(path) if path.is_file() else []
    return replace(
        settings,
        database=path,
        unique_id=_used_with(path, IDS, known, settings.unique_id),
        catalog=_used_with(path, CATALOG, known, settings.catalog),
    )


def _used_with(path: Path, what: str, known: Sequence[Path], configured: Place) -> Place:
    """The database for ``what`` that was used with the job store at ``path``, which knows these."""
    versions = {other: version for other in known if (version := version_of(other, what)) is not None}
    # One that has moved is left to be found where this is to be done once more.
    found = [other for other, version in versions.items() if version < MOVED] or list(versions)
    if configured in found or not found:
        return configured
    if len(found) > 1:
        raise SettingsError(
            f"{path} was used with {' and '.join(map(str, found))}: give its configuration file instead"
        )
    return found[0]


def _beside(place: Path, what: str, before: Place) -> Place:
    return before if isinstance(before, Endpoint) else place.with_name(_usual_name(what))


def _usual_name(what: str) -> str:
    option = {JOBS: DATABASE, IDS: UNIQUEID_URL, CATALOG: CATALOG_URL}[what]
    return Path(places_in(Path("/"))[option]).name


def _shown(place: Place) -> str:
    return place.url if isinstance(place, Endpoint) else str(place)


def _is_same(one: Place, other: Place) -> bool:
    if isinstance(one, Path) and isinstance(other, Path) and one.exists() and other.exists():
        return one.samefile(other)
    return one == other
