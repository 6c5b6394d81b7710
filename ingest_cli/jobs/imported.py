"""Jobs of Pacifica Ingest, the service that was here before: what its clients may still ask for."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportedJob:
    """The state of a job as Pacifica Ingest answered with it: the percent and the times are its own texts.

    It is no job of this program: nobody runs, retries, discards, verifies or prunes it.
    """

    job_id: int
    state: str
    task: str
    task_percent: str
    complete: bool
    updated: str
    created: str
    exception: str

    def as_state(self) -> dict[str, Any]:
        """The object that ``get_state`` answers with."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of imported jobs: how many are ``new`` or ``changed``, and which ids are the store's ``own``."""

    new: int
    changed: int
    own: list[int]
