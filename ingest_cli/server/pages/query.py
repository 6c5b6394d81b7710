"""What a visitor asks the list of jobs for, as the address of the page says it."""

from dataclasses import dataclass, replace

from starlette.datastructures import QueryParams

from ...jobs.filter import GROUPS as USUAL
from ...jobs.filter import JobFilter
from ...jobs.job import JobStatus
from ...text import number_of
from .html import address

# With those that are shown only where there are some.
GROUPS = {
    **USUAL,
    "discarded": frozenset({JobStatus.DISCARDED}),
    "superseded": frozenset({JobStatus.SUPERSEDED}),
}
GLOB_MARKS = "*?["


def group_of(status: JobStatus) -> str:
    """The word under which a job of this status is counted."""
    return next(word for word, statuses in GROUPS.items() if status in statuses)


@dataclass(frozen=True, kw_only=True, slots=True)
class Query:
    """Jobs of the group ``state``, whose names have ``name`` in them or match it as a glob, of a ``user``, with ids
    below ``before``. What is empty asks for nothing."""

    state: str = ""
    name: str = ""
    user: str = ""
    before: int | None = None

    @classmethod
    def of(cls, given: QueryParams) -> "Query":
        """What an address asks for; what it cannot mean is left out."""
        # Programs call it a group.
        state, before = given.get("state") or given.get("group", ""), number_of(given.get("before", ""))
        name, user = given.get("name", "").strip(), given.get("user", "").strip()
        return cls(state=state if state in GROUPS else "", name=name, user=user, before=before)

    @property
    def is_narrow(self) -> bool:
        """Whether it is of some names or users only."""
        return bool(self.name or self.user)

    @property
    def is_plain(self) -> bool:
        """Whether it is the list that one sees first."""
        return self == Query()

    @property
    def filter(self) -> JobFilter:
        """The jobs that are asked for."""
        return replace(self.any_state, statuses=GROUPS.get(self.state, frozenset()))

    @property
    def any_state(self) -> JobFilter:
        """The same jobs, in whatever state."""
        has_marks = any(mark in self.name for mark in GLOB_MARKS)
        return JobFilter(source=self.name if has_marks or not self.name else f"*{self.name}*", user=self.user)

    def address(self, below: str) -> str:
        """The address of the list."""
        return address(below or "./", state=self.state, name=self.name, user=self.user, before=self.before)
