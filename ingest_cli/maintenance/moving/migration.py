"""Moves databases from one side to the other, so that at any time at most one of the two can be written.

Where it is killed, the same move goes on:

| killed                              | left there                    | here               | the same move        |
|-------------------------------------|-------------------------------|--------------------|----------------------|
| before the new one is whole         | in use, as if nothing was     | marked as filled   | fills in what differs |
| before the old one is marked        | the same                      | the same           | the same             |
| once the old one is marked as moved | marked: nobody can use it     | marked as filled   | takes away the mark  |
| once the new one's mark is away     | marked                        | in use             | has nothing to do    |

Meanwhile nobody else changes the old one: it is held by the transaction in which it is marked. The job store is the
first that has moved, so that nobody uses the others any more, and the last that can be used again.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field

from ...errors import IngestError, JobBusy, SettingsError, StoreError
from ...meter import NOBODY, Meter
from ...text import counted, listed
from .side import Found, Row, Side, Standing
from .tables import COUNTED, JOBS, TABLES, Table

Piece = tuple[int | None, int | None]
Lease = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Same:
    """What a table has on both sides: so many rows, and their SHA-256 in the order of their keys."""

    rows: int
    digest: str


@dataclass(frozen=True, slots=True)
class Moved:
    """A database for ``what`` that has moved from one place to another. ``tables`` are as they were compared; without,
    it had moved before."""

    what: str
    source: str
    target: str
    tables: Mapping[str, Same] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """How many rows it has."""
        return sum(same.rows for same in self.tables.values())


@dataclass(slots=True)
class _Pair:
    """The two sides of a database."""

    source: Side
    target: Side

    def __post_init__(self) -> None:
        self.was, self.found = self.source.find(), self.target.find()
        self.tables: dict[str, Same] = {}

    was: Found = field(init=False)
    found: Found = field(init=False)
    tables: dict[str, Same] = field(init=False)

    @property
    def has_left(self) -> bool:
        """Whether nothing is to be copied any more."""
        return self.was.standing is Standing.MOVED

    @property
    def moved(self) -> Moved:
        """What has become of it."""
        return Moved(self.source.what, self.source.place, self.target.place, self.tables)


def migrate(
    sides: Sequence[tuple[Side, Side]],
    require_idle: Callable[[], set[Lease]],
    meter: Meter = NOBODY,
    note: Callable[[str], None] = lambda _: None,
) -> list[Moved]:
    """Move each database from the first side to the second; the job store comes last.

    ``require_idle`` raises an error where somebody works on a job, and returns the leases of the dead. ``note`` is told
    what does not come along, before anything is changed. Raises
    SettingsError where they cannot be moved there, and what a `Side` raises.
    """
    with ExitStack() as stack:
        for side in (side for pair in sides for side in pair):
            stack.enter_context(closing(side))
        pairs = [_Pair(source, target) for source, target in sides]
        for pair in pairs:
            _require_possible(pair)
        staying = [pair for pair in pairs if not pair.has_left]
        leases = require_idle() if any(pair.source.what == JOBS for pair in staying) else set()
        _copy(staying, leases, meter, note)
        for pair in pairs:
            if not pair.has_left or pair.found.standing is Standing.FILLED:
                if pair.source.what == JOBS and not pair.source.has_queues:
                    pair.target.place_jobs()
                pair.target.end()
        return [pair.moved for pair in pairs]


def _require_possible(pair: _Pair) -> None:
    what, source, target = pair.source.what, pair.source.place, pair.target.place
    was, found = pair.was, pair.found
    if was.standing is Standing.NOTHING:
        raise SettingsError(f"there is no {what} {source}")
    if was.standing is Standing.FILLED:
        raise SettingsError(f"the {what} {source} is not complete: it is being filled from {was.other}")
    if was.standing is Standing.MOVED and was.other != target:
        raise SettingsError(f"the {what} {source} has moved to {was.other}")
    if found.standing is Standing.FILLED and found.other != source:
        raise SettingsError(f"the {what} {target} is being filled from {found.other}: it cannot be from {source} too")
    if found.standing is Standing.MOVED:
        raise SettingsError(f"a {what} was at {target} and has moved to {found.other}: delete what is left there first")
    if found.standing is Standing.USED and not pair.has_left:
        raise SettingsError(f"there is a {what} {target} already: move to a new place")
    if found.standing is Standing.NOTHING and pair.has_left:
        raise StoreError(f"the {what} {source} has moved to {target}, but is not there: is its disk mounted?")


def _copy(pairs: Sequence[_Pair], leases: set[Lease], meter: Meter, note: Callable[[str], None]) -> None:
    with ExitStack() as stack:
        for pair in pairs:  # that which is entered last is left, and has moved, first
            stack.enter_context(pair.source.still())
        for pair in pairs:
            if pair.source.what == JOBS:
                _require_unchanged(pair.source, leases)
                if not pair.target.has_queues:
                    pair.source.require_jobs_here()
                    _tell_of_uploads(pair.source, note)
        for pair in pairs:
            pair.target.begin(pair.source.place)
        meter.plan(len(pairs), 2 * sum(pair.source.size() for pair in pairs))
        for pair in pairs:
            advance = _Advance(pair, meter)
            meter.part(f"copy {pair.source.what}")
            for table in TABLES[pair.source.what]:
                _fill(pair, table, advance)
            if pair.source.what == JOBS and (number := pair.source.last_number()):
                pair.target.pass_over(number)
            meter.part(f"check {pair.source.what}")
            for table in TABLES[pair.source.what]:
                pair.tables[table.name] = _compared(pair, table, advance)
            _require_same_counts(pair)
            meter.advance(0, 1)
        for pair in pairs:
            pair.target.flush(pair.source.place)
        for pair in pairs:
            pair.source.mark_moved(pair.target.place)


def _tell_of_uploads(source: Side, note: Callable[[str], None]) -> None:
    if uploads := source.uploads_under_way():
        note(
            f"{counted(len(uploads), 'upload')} under way will be begun anew by their clients, for the new place has no"
            f" shared spool: {listed(uploads)}"
        )


def _require_unchanged(source: Side, leases: set[Lease]) -> None:
    """Raise JobBusy where somebody has leased a job since these were all the leases."""
    found = set(
        source.answer("SELECT job_id, fence FROM jobs WHERE holder IS NOT NULL AND state IN ('running', 'undoing')")
    )
    for job_id, _ in found - leases:
        raise JobBusy(f"job {job_id} was begun just now: end the workers, servers and watchers first")


class _Advance:
    """Tells a meter of rows as the bytes that they are about."""

    def __init__(self, pair: _Pair, meter: Meter) -> None:
        rows = sum(pair.source.count(table) for table in TABLES[pair.source.what])
        self._bytes, self._meter = pair.source.size() / max(rows, 1), meter

    def __call__(self, rows: int) -> None:
        self._meter.advance(int(rows * self._bytes))


def _fill(pair: _Pair, table: Table, advance: Callable[[int], None]) -> None:
    """Have the table hold on the second side what it holds on the first: what differs is put there."""
    columns = _columns(pair, table)
    identity = [columns.index(column) for column in table.identity]
    for after, upto in _pieces(pair.source, table):
        wanted = pair.source.rows(table, columns, after, upto)
        there = set(pair.target.rows(table, columns, after, upto))
        new = [row for row in wanted if row not in there]
        if table.is_replaced:
            if new or there - set(wanted):
                _put(pair, table, columns, wanted, after)
        else:
            kept = {_identity(row, identity) for row in wanted}
            if gone := [key for key in (_identity(row, identity) for row in there) if key not in kept]:
                pair.target.remove(table, gone)
            if new:
                _put(pair, table, columns, new, after)
        advance(len(wanted))


def _put(pair: _Pair, table: Table, columns: Sequence[str], rows: Sequence[Row], after: int | None) -> None:
    try:
        pair.target.put(table, columns, rows)
    except StoreError as error:  # such as a text that this one does not take
        behind = f" behind {table.key} {after}" if after is not None else ""
        raise StoreError(f"cannot copy {table.name}{behind}: {error}") from error


def _compared(pair: _Pair, table: Table, advance: Callable[[int], None]) -> Same:
    """What the table has on both sides. Raises StoreError where it is not the same."""
    columns = _columns(pair, table)
    one, other = _Sum(), _Sum()
    for after, upto in _pieces(pair.source, table):
        advance(one.add(pair.source.rows(table, columns, after, upto)))
        other.add(pair.target.rows(table, columns, after, upto))
    if one.same != other.same:
        raise _differs(pair, f"{table.name}: {one}", str(other))
    return one.same


class _Sum:
    """Counts and digests rows, a piece of a table after the other."""

    def __init__(self) -> None:
        self._rows, self._digest = 0, hashlib.sha256()

    def __str__(self) -> str:
        return f"{counted(self._rows, 'row')} ({self._digest.hexdigest()[:12]})"

    def add(self, rows: Sequence[Row]) -> int:
        """Count rows, whatever their order; return how many they are."""
        self._rows += len(rows)
        for row in sorted(map(repr, rows)):
            self._digest.update(row.encode("utf-8", "surrogatepass") + b"\n")
        return len(rows)

    @property
    def same(self) -> Same:
        """What both sides are to have."""
        return Same(self._rows, self._digest.hexdigest())


def _require_same_counts(pair: _Pair) -> None:
    """Raise StoreError where the databases do not count the same."""
    for query in COUNTED[pair.source.what]:
        one, other = (set(side.answer(query)) for side in (pair.source, pair.target))
        if one != other:
            raise _differs(pair, f"{query}: {sorted(one - other)[:1]}", str(sorted(other - one)[:1]))


def _differs(pair: _Pair, one: str, other: str) -> IngestError:
    source, target = pair.source, pair.target
    return StoreError(f"the {source.what} {target.place} is not as {source.place}: {one} there, {other} here")


def _pieces(side: Side, table: Table) -> Iterator[Piece]:
    """From which key to which the table is gone through; the last piece ends nowhere, for the other side may have more
    rows."""
    after = None
    if table.key is not None:
        while (upto := side.next_key(table, after)) is not None:
            yield after, upto
            after = upto
    yield after, None


def _columns(pair: _Pair, table: Table) -> tuple[str, ...]:
    """The columns of a table, which are the same on both sides."""
    columns, others = pair.source.columns(table), pair.target.columns(table)
    if {*columns} ^ {*others} not in (set(), table.own):
        raise _differs(pair, f"{table.name} has {', '.join(columns)}", ", ".join(others))
    return tuple(column for column in columns if column in others)


def _identity(row: Row, columns: Iterable[int]) -> Row:
    return tuple(row[column] for column in columns)
