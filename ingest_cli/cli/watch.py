"""``ingest watch FOLDER...``."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .command import command
from .options import Packing, Priority, RunOutput, UserSite, with_priority

if TYPE_CHECKING:
    from ..settings import Settings
    from ..watch.disposition import Destination, Disposition
    from ..watch.rules import WatchRules


@dataclass(frozen=True, kw_only=True)
class Taking:
    """What is taken of the folders, and when."""

    move: Annotated[bool, typer.Option("--move", help="Look for documents of files to move, instead of bundles.")] = (
        False
    )
    pack: Annotated[
        Path | None,
        typer.Option(
            "--pack", help="Pack each sub-folder into a bundle, with the records of this JSON file.", metavar="TEMPLATE"
        ),
    ] = None
    settle: Annotated[
        float,
        typer.Option(
            "--settle", min=0, help="How long a file must stay unchanged before it is ingested.", metavar="SECONDS"
        ),
    ] = 5.0
    patience: Annotated[
        float,
        typer.Option(
            "--patience",
            min=0,
            help="How much longer to wait for a file that is not a complete tar yet.",
            metavar="SECONDS",
        ),
    ] = 60.0
    marker: Annotated[bool, typer.Option("--marker", help="Ingest NAME only once NAME.done exists.")] = False
    pattern: Annotated[
        list[str] | None,
        typer.Option(
            "--pattern", help="Ingest only files whose names match, such as '*.tar'; can be repeated.", metavar="GLOB"
        ),
    ] = None

    def rules(self, packing: Packing) -> "WatchRules":
        """The rules under these options. Raises SettingsError."""
        from ..bundle.pack_rules import USUAL
        from ..bundle.records import read_template
        from ..errors import SettingsError
        from ..jobs.job import JobKind
        from ..watch.rules import WatchRules

        if self.move and self.pack is not None:
            raise SettingsError("--move and --pack cannot be used together")
        if self.pack is None and packing.rules != USUAL:
            raise SettingsError("--exclude, --no-default-excludes, --skip-special and --dereference need --pack")
        return WatchRules(
            kind=JobKind.MOVE if self.move else JobKind.BUNDLE,
            settle=self.settle,
            patience=self.patience,
            marker=self.marker,
            patterns=tuple(self.pattern or ()),
            template=None if self.pack is None else read_template(self.pack),
            packing=packing.rules,
        )


@dataclass(frozen=True, kw_only=True)
class Afterwards:
    """What becomes of a file that was ingested, or failed."""

    done: Annotated[
        Path | None, typer.Option("--done", help="Move ingested files to this folder.", metavar="FOLDER")
    ] = None
    failed: Annotated[
        Path | None, typer.Option("--failed", help="Move failed files to this folder.", metavar="FOLDER")
    ] = None
    delete: Annotated[bool, typer.Option("--delete", help="Delete files once they are ingested.")] = False

    def disposition(self, settings: "Settings") -> "Disposition":
        """The disposition under these options and the ``settings``. Raises SettingsError."""
        from ..errors import SettingsError
        from ..watch.disposition import Destination, Disposition

        if self.delete and self.done is not None:
            raise SettingsError("--done and --delete cannot be used together")
        return Disposition(
            done=None if self.delete else _done(self.done, settings),
            failed=None if self.failed is None else Destination(self.failed, "--failed"),
            delete=self.delete,
        )


@command
def watch(
    folders: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="FOLDER",
            help="The folders to watch; without any, those of the configuration.",
            readable=False,
            show_default=False,
        ),
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Ingest what is complete, then exit; for cron.")] = False,
    *,
    taking: Taking,
    afterwards: Afterwards,
    poll: Annotated[
        bool,
        typer.Option("--poll", help="Poll the folders instead of waiting for events; always done on network shares."),
    ] = False,
    scan: Annotated[
        float, typer.Option("--scan", min=0.1, help="Scan the folders at least this often.", metavar="SECONDS")
    ] = 60.0,
    workers: Annotated[
        int, typer.Option("--workers", "-n", min=1, max=64, help="How many jobs to run at once.", metavar="NUMBER")
    ] = 1,
    priority: Priority = None,
    packing: Packing,
    site: UserSite,
    options: RunOutput,
) -> None:
    """Ingest whatever is put into drop folders."""
    from contextlib import suppress

    from ..errors import Interrupted
    from ..watch.forever import watch_forever
    from ..watch.once import ingest_once
    from ..watch.watcher import Watcher
    from .display import audience_of_watcher, screens_of_queue
    from .signals import SPARE_SECONDS, interruptible

    settings = with_priority(site.settings, priority)
    watcher = Watcher(
        settings=settings,
        folders=_folders(folders, settings),
        rules=taking.rules(packing),
        disposition=afterwards.disposition(settings),
        observe=screens_of_queue(json=options.json, quiet=options.quiet, verbose=options.verbose),
        audience=audience_of_watcher(json=options.json, quiet=options.quiet),
    )
    ending = settings.timings.ending
    if once:
        with interruptible(ending):
            raise typer.Exit(ingest_once(watcher, may_overlap=options.quiet))
    # The processes of the jobs are waited for.
    with suppress(Interrupted), interruptible(ending + SPARE_SECONDS):
        watch_forever(watcher, workers=workers, seconds=scan, poll=poll)


def _folders(given: list[Path] | None, settings: "Settings") -> list[Path]:
    from ..errors import SettingsError

    folders = given or list(settings.watch.folders)
    if not folders:
        raise SettingsError("there is no folder to watch: give one, or set [watch] folders in the configuration")
    return folders


def _done(given: Path | None, settings: "Settings") -> "Destination | None":
    from ..settings.options import WATCH_DONE
    from ..watch.disposition import Destination

    if given is not None:
        return Destination(given, "--done")
    return None if settings.watch.done is None else Destination(settings.watch.done, settings.where(WATCH_DONE))
