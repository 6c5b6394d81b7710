"""The members of a tar by their names: a million of them take 60 MB."""

from array import array
from collections.abc import Iterator, Mapping

from .tar import Member

EMPTY_SLOT = -1


class Members(Mapping[str, Member]):
    """The members that were added, in their order. Each also has a position, from 0 on, which is quicker than a name.

    It is a hash table like any other, but for its columns: objects would take four times as much.
    """

    def __init__(self) -> None:
        self._names, self._ends = bytearray(), array("q")
        self._offsets, self._sizes, self._mtimes = array("q"), array("q"), array("d")
        self._odd_times: dict[int, str] = {}
        self._slots = array("i", [EMPTY_SLOT] * 8)

    def __len__(self) -> int:
        return len(self._ends)

    def __iter__(self) -> Iterator[str]:
        return (self._name_at(position).decode() for position in range(len(self)))

    def __getitem__(self, name: str) -> Member:
        position = self.position(name)
        if position is None:
            raise KeyError(name)
        return self.at(position)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.position(name) is not None

    def position(self, name: str) -> int | None:
        """The position of the member of this name."""
        position = self._slots[self._slot_of(name.encode("utf-8", "surrogatepass"))]
        return None if position == EMPTY_SLOT else position

    def at(self, position: int) -> Member:
        """The member at a position."""
        return Member(
            self._name_at(position).decode(),
            self._offsets[position],
            self._sizes[position],
            self._mtimes[position],
            self._odd_times.get(position),
        )

    def size(self, position: int) -> int:
        """The size of the member at a position."""
        return self._sizes[position]

    def has_odd_time(self, position: int) -> bool:
        """Whether the member at a position has an ``odd_time``."""
        return position in self._odd_times

    def add(self, member: Member) -> bool:
        """Add a member behind the last; or False where there is one of its name, which stays."""
        name = member.name.encode()
        slot = self._slot_of(name)
        if self._slots[slot] != EMPTY_SLOT:
            return False
        position = len(self)
        self._slots[slot] = position
        self._names += name
        self._ends.append(len(self._names))
        self._offsets.append(member.offset)
        self._sizes.append(member.size)
        self._mtimes.append(member.mtime)
        if member.odd_time is not None:
            self._odd_times[position] = member.odd_time
        if 3 * len(self) > 2 * len(self._slots):
            self._spread()
        return True

    def _name_at(self, position: int) -> bytearray:
        return self._names[self._ends[position - 1] if position else 0 : self._ends[position]]

    def _slot_of(self, name: bytes | bytearray) -> int:
        """The slot that has the position of the member of this name, or would have it."""
        mask = len(self._slots) - 1
        slot = hash(bytes(name)) & mask
        while (position := self._slots[slot]) != EMPTY_SLOT and self._name_at(position) != name:
            slot = (slot + 1) & mask
        return slot

    def _spread(self) -> None:
        self._slots = array("i", [EMPTY_SLOT]) * (2 * len(self._slots))
        for position in range(len(self)):
            self._slots[self._slot_of(self._name_at(position))] = position
