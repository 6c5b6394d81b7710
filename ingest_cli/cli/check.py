"""``ingest check BUNDLE...``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .options import Config, Debug, Json, Quiet, User, settings_of

if TYPE_CHECKING:
    from ..pipeline.check import Findings


def check(
    bundles: Annotated[list[Path], typer.Argument(metavar="BUNDLE", help="Tar files.")],
    config: Config = None,
    user: User = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Say all that is wrong with bundles, and store nothing."""
    from contextlib import closing

    from ..errors import ExitCode
    from ..pipeline.check import check_bundle
    from ..services.factory import policy

    settings = settings_of(config, None, user)
    ill = 0
    with closing(policy(settings)) as site_policy:
        for path in bundles:
            findings = check_bundle(path, user=settings.user, spool=settings.spool, policy=site_policy)
            ill += bool(findings.problems)
            if json:
                _write(path, findings)
            else:
                _show(path, findings, quiet=quiet)
    if ill:
        raise typer.Exit(ExitCode.FAILED if ill == len(bundles) else ExitCode.SOME_FAILED)


def _write(path: Path, findings: "Findings") -> None:
    import json as json_format

    answer = {
        "source": str(path),
        "well": not findings.problems,
        "files": findings.files,
        "bytes": findings.bytes,
        "problems": [{"stage": problem.stage, "problem": str(problem)} for problem in findings.problems],
        "warnings": findings.warnings,
    }
    print(json_format.dumps(answer), flush=True)


def _show(path: Path, findings: "Findings", *, quiet: bool) -> None:
    import sys

    for problem in findings.problems:
        print(f"{path}: {problem}")
    if quiet:
        return
    for warning in findings.warnings:
        print(f"ingest: warning: {path}: {warning}", file=sys.stderr)
    count = len(findings.problems)
    verdict = "is well" if not count else "has 1 problem" if count == 1 else f"has {count} problems"
    print(f"ingest: {path} {verdict}: {findings.files} files, {findings.bytes} bytes", file=sys.stderr)
