"""Send to a server of another machine."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from ..bundle.pack_rules import USUAL, PackRules
from ..errors import SettingsError
from ..settings import Settings, load_settings
from .opening import AnyPath, require_several

if TYPE_CHECKING:
    from ..client.plan import Metadata
    from ..client.target import Target
    from ..client.upload import Observe as ObserveUpload
    from ..client.upload import Outcome as UploadOutcome
    from ..client.upload import Terms


def upload(
    paths: Iterable[AnyPath],
    *,
    to: str | None = None,
    submitter: int | None = None,
    project: str | None = None,
    instrument: int | None = None,
    keys: Iterable[tuple[str, str]] = (),
    ask: "Callable[[Path, Target], Metadata] | None" = None,
    rules: PackRules = USUAL,
    pack: bool = False,
    together: bool = False,
    terms: "Terms | None" = None,
    observe: "ObserveUpload | None" = None,
    settings: Settings | None = None,
) -> "Iterator[UploadOutcome]":
    """Send bundles, and files and folders to be packed, to the server at ``to``, else to that of the settings.

    Yields what came of each, once that is known. Packed are folders, by the ``rules``; files too with ``pack``, or
    where an id or a key of the metadata is given; and all as one bundle with ``together``. With ``ask``, the metadata
    are what it returns for the first path and the server. An upload that was cut off is resumed by the same call.
    """
    from ..client.finding import find_target
    from ..client.observer import UploadObserver
    from ..client.plan import UploadDescription, described, plan
    from ..client.server import IngestServer
    from ..client.upload import Terms, Uploader

    require_several(paths)
    settings = settings or load_settings()
    said = UploadDescription(submitter=submitter, project=project, instrument=instrument, pairs=tuple(keys))
    target, folder = find_target(settings, to), settings.upload.folder
    if folder is None:
        raise SettingsError("there is no home folder: set folder in [upload] (INGEST_UPLOADS)")

    def describe(path: Path) -> "Metadata":
        return described(said, path) if ask is None else ask(path, target)

    with closing(IngestServer(target)) as server:
        pack_files = pack or said.says_something
        items = plan(list(map(Path, paths)), rules, describe, pack_files=pack_files, together=together)
        uploader = Uploader(server, target, folder, terms or Terms())
        yield from uploader.upload_all(items, observe or (lambda *_: UploadObserver()))
