"""``ingest serve``."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .command import command
from .completion import log_formats
from .options import Debug, Quiet, Site, Verbose, settings_under

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from ..pipeline.observer import ObserveJob
    from ..server.listening import Listener
    from ..server.routes import ServerRules
    from ..settings import Settings

DEFAULT_PORT = 8066  # Pacifica Ingest's


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where the server listens."""

    host: Annotated[str, typer.Option("--host", help="The address to listen on.", metavar="ADDRESS")] = "127.0.0.1"
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="The port to listen on; 0 picks a free one.", metavar="PORT")
    ] = DEFAULT_PORT
    unix: Annotated[
        Path | None, typer.Option("--unix", help="Listen at this Unix socket, at no address.", metavar="PATH")
    ] = None
    fd: Annotated[
        int | None,
        typer.Option("--fd", min=0, help="Listen at the socket that is open as this descriptor.", metavar="NUMBER"),
    ] = None


@dataclass(frozen=True, kw_only=True)
class Admission:
    """What the server takes, and how long it waits for it."""

    max_upload: Annotated[
        int | None, typer.Option("--max-upload", min=1, help="Refuse larger bundles.", metavar="BYTES")
    ] = None
    max_waiting: Annotated[
        int,
        typer.Option("--max-waiting", min=1, help="Refuse bundles while this many jobs are waiting.", metavar="NUMBER"),
    ] = 10_000
    reserve: Annotated[
        int, typer.Option("--reserve", min=0, help="Keep this much of the spool's disk free.", metavar="BYTES")
    ] = 1_000_000_000
    grace: Annotated[
        int,
        typer.Option("--grace", min=0, help="Give uploads this long to end, once told to end.", metavar="SECONDS"),
    ] = 1

    def rules(self, *, log_json: bool) -> "ServerRules":
        """The rules under these options."""
        from ..server.receiving import Limits
        from ..server.routes import ServerRules

        return ServerRules(
            limits=Limits(self.max_upload, self.reserve),
            max_waiting=self.max_waiting,
            log_json=log_json,
            grace=self.grace,
        )


@command
def serve(
    *,
    place: Place,
    workers: Annotated[
        int, typer.Option("--workers", "-n", min=1, max=64, help="How many jobs to run at once.", metavar="NUMBER")
    ] = 2,
    admission: Admission,
    move_from: Annotated[
        list[Path] | None,
        typer.Option(
            "--move-from",
            help="Move files that lie in this folder; can be repeated [env: INGEST_MOVE_FROM].",
            metavar="FOLDER",
        ),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option("--allow-host", help="Answer to this host name too; can be repeated.", metavar="NAME"),
    ] = None,
    root_path: Annotated[
        str | None,
        typer.Option(
            "--root-path",
            help="The path below which a proxy offers the server [env: INGEST_ROOT_PATH].",
            metavar="PATH",
        ),
    ] = None,
    log_format: Annotated[
        str,
        typer.Option(
            "--log-format", help="The format of the log: text or json.", autocompletion=log_formats, metavar="FORMAT"
        ),
    ] = "text",
    site: Site,
    quiet: Quiet = False,
    verbose: Verbose = 0,
    debug: Debug = False,
) -> None:
    """Receive bundles over HTTP, as Pacifica Ingest does.

    Jobs run in worker processes beside the server.
    """
    from ..errors import SettingsError
    from ..server.listening import listening_at
    from .display import screens_of_queue

    if log_format not in ("text", "json"):
        raise SettingsError(f"--log-format {log_format!r} is neither text nor json")
    _run(
        settings_under(**vars(site), move_from=move_from, root_path=root_path),
        admission.rules(log_json=log_format == "json"),
        listening_at(place.host, place.port, unix=place.unix, descriptor=place.fd),
        allow_host or [],
        workers=workers,
        observe=screens_of_queue(json=False, quiet=quiet, verbose=verbose),
    )


def _run(
    settings: "Settings",
    rules: "ServerRules",
    listening: "AbstractContextManager[list[Listener]]",
    allowed_hosts: list[str],
    *,
    workers: int,
    observe: "ObserveJob",
) -> None:
    """Serve until the process is told to end."""
    from contextlib import suppress

    from ..errors import Interrupted
    from ..server.authentication import Authenticator
    from ..server.serve import serve as run
    from .output import notify, record
    from .signals import SPARE_SECONDS, interruptible

    with suppress(Interrupted), interruptible() as deadline, listening as listeners:
        authenticator = Authenticator.for_hosts(settings, [place.host for place in listeners], allowed_hosts)

        def ready(url: str) -> None:
            # From now on uploads that are under way may end, and then the processes of the jobs.
            deadline.seconds = rules.grace + settings.timings.ending + SPARE_SECONDS
            notify(f"listening at {url}")

        run(settings, rules, authenticator, listeners, workers=workers, observe=observe, tell=record, ready=ready)
