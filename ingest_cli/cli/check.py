"""``ingest check BUNDLE...``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .command import command
from .options import Config, QuietOutput, User, settings_under

if TYPE_CHECKING:
    from ..pipeline.check import Findings


@command
def check(
    bundles: Annotated[list[Path], typer.Argument(metavar="BUNDLE", help="The bundles to check.")],
    *,
    config: Config = None,
    user: User = None,
    options: QuietOutput,
) -> None:
    """Report every problem in bundles without storing anything."""
    from .. import api
    from ..errors import ExitCode, Interrupted
    from ..jobs.stages import OPEN_TAR
    from ..meter import Meter
    from ..text import counted
    from .display import meter_for

    codes: list[ExitCode] = []

    def observe(path: Path) -> Meter:
        return meter_for(options, str(path), OPEN_TAR, len(codes) + 1, len(bundles))

    checked = api.check_bundles(bundles, observe=observe, settings=settings_under(config=config, user=user))
    try:
        for path, findings in zip(bundles, checked, strict=True):
            codes.append(ExitCode.FAILED if findings.problems else ExitCode.SUCCESS)
            if options.json:
                _write(path, findings)
            else:
                _show(path, findings, quiet=options.quiet)
    except KeyboardInterrupt:
        done = f"{len(codes):,} of {counted(len(bundles), 'bundle')} checked"
        raise Interrupted(f"interrupted, {done}; the same command begins anew") from None
    code = ExitCode.of_several(codes)
    if code:
        raise typer.Exit(code)


def _write(path: Path, findings: "Findings") -> None:
    from .output import write_json

    write_json(
        {
            "source": str(path),
            "well": not findings.problems,
            "files": findings.files,
            "bytes": findings.bytes,
            "problems": [{"stage": problem.stage, "problem": str(problem)} for problem in findings.problems],
            "more_problems": findings.more_problems,
            "warnings": findings.warnings,
        }
    )


def _show(path: Path, findings: "Findings", *, quiet: bool) -> None:
    from rich.filesize import decimal

    from ..text import counted
    from .output import Warnings, notify, say

    for problem in findings.problems:
        say(f"{path}: {problem}")
    if findings.more_problems:
        say(f"{path}: and {counted(findings.more_problems, 'more problem')}")
    if quiet:
        return
    with Warnings() as warnings:
        for warning in findings.warnings:
            warnings.warn(f"{path}: {warning}")
    count = findings.problem_count
    verdict = counted(count, "problem") if count else "no problems"
    within = f" in {counted(findings.files, 'file')}, {decimal(findings.bytes)}" if findings.files else ""
    notify(f"{path}: {verdict}{within}")
