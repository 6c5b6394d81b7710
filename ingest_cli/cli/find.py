"""``ingest find``."""

import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .command import command
from .ls import Long
from .options import QuietOutput, Site, pairs_of

if TYPE_CHECKING:
    from ..retrieval.copies import Copies

# What no database takes as a number.
LARGEST_ID = 2**63 - 1


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Which files are to be found: those of which all that is given is true."""

    name: Annotated[
        str | None, typer.Option("--name", help="Only files whose name matches, as '*.raw' does.", metavar="GLOB")
    ] = None
    path: Annotated[
        str | None,
        typer.Option("--path", help="Only files whose path in the bundle matches, as 'run7/*' does.", metavar="GLOB"),
    ] = None
    hash: Annotated[
        str | None, typer.Option("--hash", help="Only files of this hash, in hex.", metavar="[TYPE:]HEX")
    ] = None
    key: Annotated[
        list[str] | None,
        typer.Option(
            "--key",
            help="Only files that have this key with this value, or whose job has; can be repeated.",
            metavar="KEY=VALUE",
        ),
    ] = None
    project: Annotated[str | None, typer.Option("--project", help="Only files of this project.", metavar="ID")] = None
    instrument: Annotated[
        int | None,
        typer.Option("--instrument", min=0, max=LARGEST_ID, help="Only files of this instrument.", metavar="ID"),
    ] = None
    submitter: Annotated[
        int | None,
        typer.Option("--submitter", min=0, max=LARGEST_ID, help="Only files of this submitter.", metavar="ID"),
    ] = None
    of_user: Annotated[str | None, typer.Option("--user", help="Only files of jobs of this user.", metavar="NAME")] = (
        None
    )
    since: Annotated[
        str | None,
        typer.Option(
            "--since",
            help="Only files recorded at this time or later: '2h', '3d', 'monday', '2026-11-28 14:30', in UTC.",
            metavar="TIME",
        ),
    ] = None
    until: Annotated[
        str | None, typer.Option("--until", help="Only files recorded before this time.", metavar="TIME")
    ] = None

    @property
    def given(self) -> dict[str, Any]:
        """What `api.find_files` is to be called with. Raises SettingsError."""
        from .job_filter import moment_of

        return {
            "name": self.name or "",
            "path": self.path or "",
            "hashsum": self.hash or "",
            "pairs": pairs_of(self.key),
            "project": self.project or "",
            "instrument": self.instrument,
            "submitter": self.submitter,
            "user": self.of_user or "",
            "since": moment_of("--since", self.since),
            "until": moment_of("--until", self.until),
        }


@command
def find(
    paths: Annotated[
        list[Path] | None, typer.Argument(metavar="PATH", help="With --file: the files and folders to look up.")
    ] = None,
    *,
    file: Annotated[
        bool, typer.Option("--file", help="Say of each file of this machine whether what it holds is stored.")
    ] = False,
    wanted: Wanted,
    long: Long = False,
    site: Site,
    output: QuietOutput,
) -> None:
    """Find stored files, or say which local files are stored."""
    from ..errors import SettingsError

    if file:
        if not paths or any(getattr(wanted, field.name) for field in fields(wanted)):
            raise SettingsError("--file takes the paths of files or folders of this machine, and nothing else to find")
        _look_up(paths, site, output)
    elif paths:
        raise SettingsError("give --file to look up files of this machine, or --name to find stored ones by their name")
    else:
        _find(wanted, site, output, long=long)


def _find(wanted: Wanted, site: Site, output: QuietOutput, *, long: bool) -> None:
    from .. import api
    from .files import FileLines
    from .output import notify

    lines = FileLines(has_jobs=True, long=long, json=output.json)
    for job_id, file in api.find_files(**wanted.given, settings=site.settings):
        lines.show(job_id, file)
    lines.end()
    if not lines.files and not output.quiet:
        notify("no files match")


def _look_up(paths: list[Path], site: Site, output: QuietOutput) -> None:
    from .. import api
    from ..errors import ExitCode
    from ..text import counted
    from .display import meter_for
    from .output import notify

    count = stored = 0
    codes: set[ExitCode] = set()
    for_programs = not sys.stdout.isatty()  # before a display stands in its place
    with meter_for(output, "find", "hash") as meter:
        for copies in api.find_copies(paths, meter=meter, settings=site.settings):
            count += 1
            stored += copies.is_stored
            if not copies.is_stored:
                codes.add(ExitCode.FAILED if copies.error is None else copies.error.exit_code)
            _tell(copies, output, for_programs=for_programs)
    if not output.json and not output.quiet:
        notify(f"{stored:,} of {counted(count, 'file')} {'is' if count == 1 else 'are'} stored")
    if codes:
        raise typer.Exit(ExitCode.of_failures(codes))


def _tell(copies: "Copies", output: QuietOutput, *, for_programs: bool) -> None:
    from .output import notify

    if output.json:
        _write(copies)
    elif copies.error is not None:
        notify(copies.error)
    elif not output.quiet:
        _say(copies, for_programs=for_programs)


def _write(copies: "Copies") -> None:
    from .files import as_object
    from .output import error_fields, write_json

    answer = {
        "source": str(copies.path),
        "found": copies.is_stored,
        "copies": [as_object(job_id, file) for job_id, file in copies.copies],
        **error_fields(copies.error),
    }
    write_json(answer)


def _say(copies: "Copies", *, for_programs: bool) -> None:
    from .files import say_fields
    from .output import say

    word = "stored" if copies.is_stored else "not stored"
    if for_programs:
        first = [(str(job_id), file.path) for job_id, file in copies.copies[:1]]
        say_fields([word, str(copies.path), *(first[0] if first else ())])
        return
    where = f", as {copies.copies[0][1].path} of job {copies.copies[0][0]}" if copies.is_stored else ""
    say(f"{copies.path}: {word}{where}")
