"""``pacifica-ingest`` and ``pacifica-ingest-cmd``, as the units and scripts of a Pacifica site call them.

They take what Pacifica Ingest's own commands take, and do what this program's do.
"""

import argparse
import os
from pathlib import Path

from ..errors import ExitCode, SettingsError
from ..settings import login_name
from ..settings.options import SERVICES
from .cherrypy_config import ignored_keys, listening
from .options import settings_under, values_under
from .output import notify, warn
from .serve import DEFAULT_PORT

# What a shell makes of the -1 of the old one.
NOT_CURRENT = 255
FOLDER = Path("~/.pacifica-ingest")


def serve() -> int:
    """Run ``pacifica-ingest``."""
    from .serve import serve as run

    parser = argparse.ArgumentParser("pacifica-ingest", description="Receive bundles over HTTP.")
    parser.add_argument("--cp-config", metavar="CPCONFIG", dest="cpconfig", type=Path, help="cherrypy config file")
    _add_config(parser)
    parser.add_argument("-p", "--port", type=int, default=DEFAULT_PORT, help="port to listen on")
    parser.add_argument("-a", "--address", default="localhost", help="address to listen on")
    given = parser.parse_args()
    config = _config(given.config)
    named = given.cpconfig or _from_environment("INGEST_CPCONFIG")
    file = named or _own("cpconfig.ini")
    found = listening(file, given.address, given.port, required=named is not None)
    if ignored := ignored_keys(file, found):
        notify(ignored)
    _warn_of_embedded(config)
    run(
        host=found.host,
        port=found.port,
        unix=found.unix,
        max_upload=found.most,
        config=config,
        db=None,
        quiet=False,
        verbose=0,
        debug=False,
    )
    return ExitCode.SUCCESS


def administer() -> int:
    """Run ``pacifica-ingest-cmd``."""
    from .signals import interruptible

    parser = argparse.ArgumentParser("pacifica-ingest-cmd", description="Manage jobs and the job store.")
    _add_config(parser)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    job = commands.add_parser("job", help="set the state of a job")
    job.add_argument("--job-id", type=int, required=True, help="the job to change")
    job.add_argument("--state", required=True, help="set the state")
    job.add_argument("--task", required=True, help="set the task")
    job.add_argument("--task-percent", type=float, required=True, help="set the task_percent")
    job.add_argument("--exception", default="", help="set the exception")
    job.set_defaults(run=_set_job)
    commands.add_parser("dbsync", help="make the job store, or bring it up to date").set_defaults(run=_sync)
    check = commands.add_parser("dbchk", help="check that the job store is up to date")
    check.add_argument("--equal", action="store_true", help="the same: no other version of the store can be used")
    check.set_defaults(run=_check)
    retry = commands.add_parser("retry", help="run a job again, or a file as a new one")
    retry.add_argument("--move", action="store_true", help="the file is a document of files to move")
    retry.add_argument("--path", type=Path, help="the tar or JSON file")
    retry.add_argument("--username", help="the user to ingest as")
    retry.add_argument("--job_id", type=int, help="the job to run again")
    retry.set_defaults(run=_retry)
    given = parser.parse_args()
    with interruptible(message="interrupted"):
        status: int = given.run(given)
    return status


def _set_job(given: argparse.Namespace) -> int:
    from .. import api
    from .job import override_of

    override = override_of(given.state, given.task, given.task_percent, given.exception)
    api.set_job_state(given.job_id, override, tell=warn, settings=settings_under(config=_config(given.config)))
    return ExitCode.SUCCESS


def _sync(given: argparse.Namespace) -> int:
    from .. import api

    api.make_databases(settings=settings_under(config=_config(given.config)))
    return ExitCode.SUCCESS


def _check(given: argparse.Namespace) -> int:
    from ..jobs.store import is_current

    settings = settings_under(config=_config(given.config))
    if is_current(settings):
        return ExitCode.SUCCESS
    notify(f"the job store {settings.database} is not there, or not of this version: see 'pacifica-ingest-cmd dbsync'")
    return NOT_CURRENT


def _retry(given: argparse.Namespace) -> int:
    from functools import partial

    from .. import api
    from ..errors import JobNotFound
    from ..jobs.job import JobKind
    from ..pipeline.batch import exit_code
    from .display import screen_for
    from .options import RunOutput

    settings = settings_under(config=_config(given.config), user=given.username or login_name())
    observe = partial(screen_for, RunOutput(quiet=True))
    try:
        known = None if given.job_id is None else api.find_job(given.job_id, settings=settings)
    except (JobNotFound, SettingsError):
        known = None
    if known is not None:
        _require_the_same(given, known.source)
        return exit_code(api.retry_jobs([known.job_id], observe, tell=warn, settings=settings))
    if given.path is None:
        raise SettingsError("--path is needed: there is no such job here")
    kind = JobKind.MOVE if given.move else JobKind.BUNDLE
    outcomes = api.ingest_files(kind, [given.path], observe, tell=warn, settings=settings)
    for outcome in outcomes:
        if outcome.job is not None and given.job_id is not None:
            notify(f"job {outcome.job.job_id} is in place of job {given.job_id}, which is not one of this program")
    return exit_code(outcomes)


def _require_the_same(given: argparse.Namespace, source: str) -> None:
    """Raise where a job is to be run again with another file than its own."""
    path, own = given.path, Path(source)
    if path is not None and path.exists() and not (own.exists() and path.samefile(own)):
        raise SettingsError(
            f"job {given.job_id} is of {source}: leave out --job_id to ingest {path} as a job of its own"
        )


def _add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-c", "--config", type=Path, help="ingest config file")


def _config(given: Path | None) -> Path | None:
    """The configuration file: as Pacifica Ingest finds it, else as this program does."""
    own = _own("config.ini")
    return given or _from_environment("INGEST_CONFIG") or (own if own.is_file() else None)


def _from_environment(variable: str) -> Path | None:
    return Path(os.environ[variable]) if os.environ.get(variable) else None


def _own(name: str) -> Path:
    """Where a file of Pacifica Ingest lies in the home folder."""
    try:
        return FOLDER.expanduser() / name
    except RuntimeError:  # there is none
        return Path(os.devnull) / name


def _warn_of_embedded(config: Path | None) -> None:
    """Tell of services that Pacifica Ingest looks for on this machine where none is named."""
    unset = [value.option for value in values_under(config=config) if value.origin == "default"]
    for option in SERVICES.values():
        if option in unset:
            name = f"[{option.section}] {option.key}"
            warn(f"{name} is not set: no service is asked, where Pacifica Ingest asks one of this machine")
