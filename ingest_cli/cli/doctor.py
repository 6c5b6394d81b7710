"""``ingest doctor``."""

import json as json_format
from typing import TYPE_CHECKING, Annotated

import typer

from .options import Config, Db, Debug, Json, settings_of

if TYPE_CHECKING:
    from ..maintenance.doctor import Finding


def doctor(
    probe: Annotated[
        bool,
        typer.Option(
            "--probe",
            help="Also write files into the archive, read them back and delete them, to find out how many it takes"
            " at once. Nothing else should write to it meanwhile.",
        ),
    ] = False,
    config: Config = None,
    db: Db = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Look at everything that a job will need.

    Where something is ill, say what to do.
    """
    from ..errors import ExitCode
    from ..maintenance import doctor as looking

    settings = settings_of(config, db)
    findings = []
    for look in [looking.examine, *([looking.probe] if probe else [])]:
        for finding in look(settings):
            findings.append(finding)
            if not json:
                _show(finding)
    if json:
        rows = [{"name": f.name, "ok": f.ok, "detail": f.detail, "advice": f.advice} for f in findings]
        print(json_format.dumps(rows, indent=2))
    codes = [finding.exit_code for finding in findings if not finding.ok]
    if codes:
        raise typer.Exit(ExitCode.of_failures(codes))


def _show(finding: "Finding") -> None:
    from rich.console import Console
    from rich.text import Text

    mark = Text("well", "green") if finding.ok else Text("ILL ", "bold red")
    console = Console(soft_wrap=True, highlight=False)
    console.print(mark, f"{finding.name:<13}{finding.detail}", markup=False)
    if finding.advice and not finding.ok:
        console.print(f"{'':<18}{finding.advice}", markup=False)
