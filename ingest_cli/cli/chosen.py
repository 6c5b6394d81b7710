"""Which jobs a command is to change, and whether the person who chose them by what they are means these."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from ..errors import ExitCode, SettingsError
from .job_filter import Jobs

if TYPE_CHECKING:
    from ..jobs.filter import JobFilter, JobStatus
    from ..jobs.job import Job
    from ..jobs.store import JobStore
    from ..settings import Settings

MOST_SHOWN = 10
AT_ONCE = 500


@dataclass(frozen=True, kw_only=True)
class Consent:
    """Whether jobs that were chosen by what they are, not by their ids, are really to be changed."""

    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask whether these jobs are meant.")] = False
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list the jobs that would be changed.")] = False


@dataclass(frozen=True)
class Change:
    """What a command does to jobs: ``verb``, as in retry, or ``done``, as in retried. It can be done to those of the
    statuses ``possible``, and is to those of the ``usual`` ones where none is named."""

    verb: str
    done: str
    possible: "frozenset[JobStatus]"
    usual: "frozenset[JobStatus]"


@dataclass(frozen=True)
class Chooser:
    """Finds out which jobs are meant, by ids or by what they are; those ``interrupted`` too, if that is asked."""

    change: Change
    chosen: Jobs
    consent: Consent
    settings: "Settings"
    interrupted: bool = False
    also: "frozenset[JobStatus]" = frozenset()
    unasked: bool = False
    json: bool = False
    quiet: bool = False

    def choose(self, job_ids: list[int] | None) -> list[int]:
        """The ids of the jobs that are to be changed. Raises SettingsError where nobody says that they are meant."""
        from ..jobs.filter import ALL
        from ..jobs.store import open_store
        from ..pipeline.selection import chosen_jobs
        from .output import notify

        wanted = self.chosen.filter
        if bool(job_ids) == (self.interrupted or wanted != ALL):
            raise SettingsError("give job ids, or options that choose jobs, such as --failed or --since, but not both")
        if job_ids and not self.consent.dry_run:
            return job_ids
        wanted = self._possible(wanted)
        with open_store(self.settings, new=False) as store:
            found = job_ids or chosen_jobs(store, wanted, interrupted=self.interrupted)
            if self.consent.dry_run:
                self._list(found, store, named=bool(job_ids))
            elif not found and not (self.unasked or self.quiet):
                notify("no jobs match")
            elif found and not (self.unasked or self.consent.yes):
                self._require_consent(found, store)
        return found

    def _possible(self, wanted: "JobFilter") -> "JobFilter":
        """The filter, for jobs to which it can be done."""
        statuses = wanted.statuses | self.also
        if impossible := statuses - self.change.possible:
            raise SettingsError(f"jobs that are {' or '.join(sorted(impossible))} cannot be {self.change.done}")
        return replace(wanted, statuses=statuses if statuses or self.interrupted else self.change.usual)

    def _list(self, job_ids: list[int], store: "JobStore", *, named: bool) -> NoReturn:
        """Show the jobs, and end: as a failure where one was ``named`` by its id to which it cannot be done."""
        from ..jobs.fields import job_fields
        from ..jobs.filter import ALL
        from ..text import counted
        from .job_console import console_for, list_on
        from .output import notify, write_json

        shown, impossible = list_on(console_for(), store, ALL), list["Job"]()
        if named:  # of those that are not there it is said before anything is listed
            for job_id in job_ids:
                store.get(job_id)
        for jobs in _jobs_of(job_ids, store):
            impossible += [job for job in jobs if named and job.status not in self.change.possible]
            possible = [job for job in jobs if not named or job.status in self.change.possible]
            if self.json:
                for job in possible:
                    write_json(job_fields(job))
            elif possible:
                shown.show(possible)
        for job in impossible:
            notify(f"job {job.job_id} cannot be {self.change.done}: it is {job.status}")
        if not (self.json or self.quiet):
            notify(f"{counted(len(job_ids) - len(impossible), 'job')} would be {self.change.done}")
        raise typer.Exit(ExitCode.FAILED if impossible else ExitCode.SUCCESS)

    def _require_consent(self, job_ids: list[int], store: "JobStore") -> None:
        """Show the jobs, and ask. Raises SettingsError where there is nobody to ask, Exit where the answer is no."""
        import sys

        from ..jobs.filter import ALL
        from ..text import counted
        from .asking import ask_whether, is_attended
        from .job_console import console_for, list_on
        from .output import mention, notify

        verb, these = self.change.verb, counted(len(job_ids), "job")
        console = console_for(sys.stderr)
        if console is None or not is_attended():
            raise SettingsError(f"{these} would be {self.change.done}: --yes does it, --dry-run lists them")
        list_on(console, store, ALL).show(store.several(job_ids[:MOST_SHOWN]))
        if len(job_ids) > MOST_SHOWN:
            mention(f"and {len(job_ids) - MOST_SHOWN:,} more")
        if not ask_whether(f"{verb.capitalize()} {these}?", proposal=False):
            notify("nothing was done")
            raise typer.Exit(ExitCode.SUCCESS)


def _jobs_of(job_ids: list[int], store: "JobStore") -> "Iterator[list[Job]]":
    """The jobs of these ids in pieces: however many there are, few are in memory."""
    for first in range(0, len(job_ids), AT_ONCE):
        yield store.several(job_ids[first : first + AT_ONCE])
