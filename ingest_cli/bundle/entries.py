"""Very many files that were found in folders: a million of them take 80 MB."""

from array import array
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any, overload

from .compact import CompactList
from .fingerprint import Found
from .pack_rules import Reason
from .tree import Entry

# So many threads may go through the files together, each near the border of two blocks of them.
BLOCKS_AT_HAND = 4


class Entries(Sequence[Entry]):
    """The entries that were added, of which each is made anew when it is looked at; so is a slice, which is short."""

    def __init__(self, entries: CompactList[tuple[Any, ...]] | None = None, order: Sequence[int] | None = None) -> None:
        self._all: CompactList[tuple[Any, ...]] = CompactList() if entries is None else entries
        # The places of those that it has, in their order, where these are not all or not as they were added.
        self._order = order
        block = self._all.block
        self._block = lru_cache(BLOCKS_AT_HAND)(lambda number: [_entry_of(*fields) for fields in block(number)])

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, index: int) -> Entry: ...
    @overload
    def __getitem__(self, index: slice) -> "Entries": ...
    def __getitem__(self, index: int | slice) -> "Entry | Entries":
        if isinstance(index, slice):
            return Entries(self._all, self._places[index])
        number, place = self._all.place(self._places[index])
        return self._block(number)[place]

    def __iter__(self) -> Iterator[Entry]:
        if self._order is None:
            return chain.from_iterable(map(self._block, range(self._all.blocks)))
        return map(self.__getitem__, range(len(self)))

    def add(self, entry: Entry) -> None:
        """Add an entry behind the last. None is to be looked at before."""
        self._all.append((entry.location, entry.name, str(entry.reason or ""), *entry.found))

    def sorted_by_name(self) -> "Entries":
        """The same, in the order of their names."""
        names = [fields[1] for fields in self._all]
        return self if names == sorted(names) else self.chosen(sorted(range(len(names)), key=names.__getitem__))

    def chosen(self, positions: Iterable[int]) -> "Entries":
        """Those at these positions, in this order."""
        places = self._places
        return Entries(self._all, array("i", (places[position] for position in positions)))

    @property
    def _places(self) -> Sequence[int]:
        return range(len(self._all)) if self._order is None else self._order


def _entry_of(location: str, name: str, reason: str, *found: Any) -> Entry:
    return Entry(location, name, Found(*found), Reason(reason) if reason else None)
