"""Watches folders for ever."""

from contextlib import ExitStack
from pathlib import Path

from ..jobs.store import JobStore, open_store
from ..pipeline.attending import attending
from ..pipeline.runner import Runner
from ..pipeline.shutdown import graceful_shutdown
from ..pipeline.worker_pool import WorkerPool
from ..services.base import UniqueId
from ..services.factory import connect
from .describe import handled, taken
from .events import Told
from .presence import Presence
from .rounds import Rounds
from .said import Said, in_words
from .watcher import Watcher


def watch_forever(watcher: Watcher, *, workers: int, seconds: float, poll: bool) -> None:
    """Ingest what becomes stable until SIGINT or SIGTERM, with so many processes.

    Folders are looked at every ``seconds``, and read over and over with ``poll``. One that is gone, such as an
    unmounted share, is waited for. Raises JobBusy or SourceError where there is none that can be watched.
    """
    settings, audience = watcher.settings, watcher.audience
    own = watcher.own_places()
    folders = [watcher.folder(path, own, Said(path, audience)) for path in watcher.paths]
    with ExitStack() as stack:
        present = stack.enter_context(Presence(folders, settings.spool, audience, seconds=seconds, poll=poll))
        if audience.notice is not None:
            for path in present.paths:
                audience.notice(f"watching {path} for {taken(watcher.rules)}")
            audience.notice(handled(watcher.rules, watcher.disposition, polls=present.polls, seconds=seconds))
        stack.enter_context(attending(settings, "watcher"))
        stack.enter_context(WorkerPool(settings, workers, watcher.observe, audience.problem))
        store = stack.enter_context(open_store(settings))
        services = stack.enter_context(connect(settings, store))
        runner = stack.enter_context(Runner(settings, services, store))
        stack.enter_context(graceful_shutdown(runner, settings.timings.grace))
        turns = _Turns(watcher, services.unique_id, store)
        while not runner.interrupted:
            told = present.told()
            for rounds in present.rounds():
                turns.take(rounds, told)
            present.wait(runner)


class _Turns:
    """Takes its turn with each folder; what is wrong with one is said once, and stops no other."""

    def __init__(self, watcher: Watcher, unique_id: UniqueId, store: JobStore) -> None:
        self._watcher, self._unique_id, self._store = watcher, unique_id, store
        self._troubles: dict[Path, str] = {}

    def take(self, rounds: Rounds, told: Told) -> None:
        """Look at what is due in the folder, or was told of, and see to it."""
        folder = rounds.folder
        try:
            rounds.see(self._store, told.news[str(folder.path)], told.renamed[str(folder.path)])
            folder.proceed(self._unique_id, self._store)
            self._troubles.pop(folder.path, None)
        except Exception as error:  # noqa: BLE001 - see above
            # Nothing is lost by looking again; what fails for good fails as a job.
            rounds.start_over()
            trouble = in_words(error, folder.path)
            if self._troubles.get(folder.path) != trouble:
                self._watcher.audience.problem(trouble)
            self._troubles[folder.path] = trouble
        self._watcher.tell_of_submitted(folder)
