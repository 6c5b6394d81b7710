"""Find out of folders what would be ingested of them."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path

from ..bundle.description import description_of
from ..bundle.folder import FolderRequest
from ..bundle.pack_rules import PackRules
from ..errors import IngestError, Interrupted, SettingsError
from ..jobs.store import open_store
from ..pipeline.dry_run import FolderPlan, plan_folder
from ..pipeline.sources import folders_in as find_folders
from ..pipeline.submission import FolderSource
from ..services.factory import catalog, policy
from ..settings import Ids, Settings, load_settings
from .opening import AnyPath


def plan_folders(
    sources: Iterable[FolderSource], *, settings: Settings | None = None
) -> Iterator[FolderPlan | IngestError]:
    """What would be stored of each of the folders, or why it would not; nothing is stored, and no site is made."""
    settings = settings or load_settings()
    with ExitStack() as stack:
        site_policy = stack.enter_context(closing(policy(settings)))
        try:
            store = stack.enter_context(open_store(settings, new=False))
            earlier = (store, stack.enter_context(closing(catalog(settings, new=False))))
        except SettingsError:  # nothing was ever ingested
            earlier = None
        for source in sources:
            try:
                yield plan_folder(source, settings, site_policy, earlier)
            except Interrupted:
                raise
            except IngestError as error:
                yield error


def folders_in(folder: AnyPath, rules: PackRules, *, settings: Settings | None = None) -> tuple[list[Path], list[str]]:
    """The folders in a folder that are to be ingested one by one; and in words, what else is in it."""
    return find_folders(Path(folder), rules, settings or load_settings())


def ids_of(folder: AnyPath, *, settings: Settings | None = None) -> Ids:
    """Of whom and what the folder was when it was ingested last."""
    settings = settings or load_settings()
    with suppress(IngestError, OSError), open_store(settings, new=False) as store:
        job = store.of_source(Path(folder).resolve())
        request = "" if job is None else store.request(job.job_id)
        return description_of(FolderRequest.from_text(request).records) if request else Ids()
    return Ids()


def last_ids(*, settings: Settings | None = None) -> Ids:
    """Of whom and what the folder was that the user ingested last."""
    settings = settings or load_settings()
    with suppress(IngestError), open_store(settings, new=False) as store:
        request = store.last_request(settings.user)
        return description_of(FolderRequest.from_text(request).records) if request else Ids()
    return Ids()
