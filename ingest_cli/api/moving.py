"""Move an installation's databases to another place."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from ..jobs.neighbours import databases, introduce
from ..jobs.store import open_store
from ..meter import NOBODY, Meter
from ..settings import Settings, load_settings

if TYPE_CHECKING:
    from ..maintenance.moving.migration import Moved


def migrate_store(
    source: str,
    target: str,
    *,
    meter: Meter = NOBODY,
    note: Callable[[str], None] = lambda _: None,
    settings: Settings | None = None,
) -> "list[Moved]":
    """Move the job store, and ids and catalogue where they are embedded; see `migration`.

    ``source`` and ``target`` are each a configuration file, or the job store: a file, ``sqlite:PATH``, or
    ``postgresql://USER@HOST/DATABASE``. Nobody may use either; where it is interrupted, the same call goes on. ``note``
    is told what does not come along, before anything is changed.
    """
    from ..maintenance.moving import places
    from ..maintenance.moving.idle import require_idle
    from ..maintenance.moving.migration import migrate

    old = places.source_of(source, settings or load_settings())
    new = places.target_of(target, old)
    pairs = places.pairs_of(old, new)

    def require_no_job_at_work() -> set[tuple[int, int]]:
        with open_store(old, new=False) as store:
            return require_idle(store, old.timings)

    moved = migrate(pairs, require_no_job_at_work, meter, note)
    for option in databases(new):
        introduce(new, option)
    return moved
