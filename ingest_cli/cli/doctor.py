"""``ingest doctor``."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from .command import command
from .options import Output, Site
from .output import write_json

if TYPE_CHECKING:
    from ..maintenance.doctor import Finding


@command
def doctor(
    probe: Annotated[
        bool,
        typer.Option(
            "--probe",
            help="Also write, read and delete test files in the archive, to find out how many it can take at once."
            " Nothing else should write to it meanwhile.",
        ),
    ] = False,
    *,
    site: Site,
    output: Output,
) -> None:
    """Check that everything a job needs works.

    Each check that fails comes with advice on what to do.
    """
    from ..errors import ExitCode
    from ..maintenance.doctor import diagnose
    from ..maintenance.probe import probe as probe_archive

    settings = site.settings
    findings = []
    for check in [diagnose, *([probe_archive] if probe else [])]:
        for finding in check(settings):
            findings.append(finding)
            if not output.json:
                show(finding)
    if output.json:
        rows = [{"name": f.name, "ok": f.ok, "detail": f.detail, "advice": f.advice} for f in findings]
        write_json(rows, indent=2)
    codes = [finding.exit_code for finding in findings if not finding.ok]
    if codes:
        raise typer.Exit(ExitCode.of_failures(codes))


def show(finding: "Finding") -> None:
    """Print a line of the result of a check, and one of advice where it failed."""
    from rich.console import Console
    from rich.text import Text

    from ..streams import unguarded
    from ..text import one_line

    mark = Text("OK  ", "green") if finding.ok else Text("FAIL", "bold red")
    # With COLUMNS=0 rich would print nothing.
    console = Console(file=unguarded(sys.stdout), soft_wrap=True, highlight=False, width=80)
    console.print(mark, Text(one_line(f"{finding.name:<13}{finding.detail}")))
    if finding.advice and not finding.ok:
        console.print(Text(one_line(f"{'':<18}{finding.advice}")))
