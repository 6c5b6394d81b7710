"""``ingest serve``."""

from pathlib import Path
from typing import Annotated

import typer

from .completion import log_formats
from .options import Config, Db, Debug, Quiet, Verbose, settings_of

DEFAULT_PORT = 8066  # Pacifica Ingest's


def serve(
    host: Annotated[str, typer.Option("--host", help="The address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="The port; 0 for a free one.")] = DEFAULT_PORT,
    workers: Annotated[int, typer.Option("--workers", "-n", min=1, max=64, help="How many jobs run at once.")] = 2,
    max_upload: Annotated[int | None, typer.Option("--max-upload", min=1, help="Bytes a bundle may be long.")] = None,
    max_waiting: Annotated[int, typer.Option("--max-waiting", min=1, help="How many jobs may wait.")] = 10_000,
    reserve: Annotated[
        int, typer.Option("--reserve", min=0, help="Bytes to keep free on the spool's disk.")
    ] = 1_000_000_000,
    move_from: Annotated[
        list[Path] | None, typer.Option("--move-from", help="Move files from these folders only.", metavar="FOLDER")
    ] = None,
    allow_host: Annotated[
        list[str] | None, typer.Option("--allow-host", help="Another name that clients use.", metavar="NAME")
    ] = None,
    log_format: Annotated[str, typer.Option("--log-format", help="text or json.", autocompletion=log_formats)] = "text",
    config: Config = None,
    db: Db = None,
    quiet: Quiet = False,
    verbose: Verbose = 0,
    debug: Debug = False,
) -> None:
    """Take bundles over HTTP, as Pacifica Ingest does.

    Their jobs run in worker processes beside the server.
    """
    import signal
    import sys
    from contextlib import suppress
    from functools import partial

    from ..errors import SettingsError
    from ..server.authentication import Authenticator
    from ..server.receiving import Limits
    from ..server.routes import ServerRules
    from ..server.serve import serve as run
    from .output import screen_of_queue
    from .verbosity import set_verbosity

    set_verbosity(verbose, quiet=quiet)
    if log_format not in ("text", "json"):
        raise SettingsError(f"--log-format {log_format!r} is neither text nor json")
    settings = settings_of(config, db)
    authenticator = Authenticator.for_host(settings, host, allow_host or [])
    rules = ServerRules(
        limits=Limits(max_upload, reserve),
        max_waiting=max_waiting,
        move_from=None if move_from is None else tuple(folder.resolve() for folder in move_from),
        log_json=log_format == "json",
    )
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with suppress(KeyboardInterrupt):
        run(
            settings,
            rules,
            authenticator,
            host=host,
            port=port,
            workers=workers,
            observe=partial(screen_of_queue, json=False, quiet=quiet, verbose=verbose),
            ready=lambda url: print(f"ingest: listening at {url}", file=sys.stderr, flush=True),
        )
