"""What is watched, by which rules, and who is told."""

from dataclasses import dataclass
from pathlib import Path

from ..jobs.job import Job
from ..pipeline.observer import ObserveJob
from ..settings import Settings
from .disposition import Disposition
from .folder import DropFolder
from .own import Identity, OwnPlaces, identity_at
from .rules import WatchRules
from .said import Audience, Said


@dataclass(frozen=True, kw_only=True, slots=True)
class Watcher:
    """Ingests what ``rules`` look for in ``folders``; ``disposition`` says what becomes of it afterwards.

    ``observe`` makes the observer of a job; the ``audience`` is told of everything else.
    """

    settings: Settings
    folders: list[Path]
    rules: WatchRules
    disposition: Disposition
    observe: ObserveJob
    audience: Audience

    @property
    def paths(self) -> list[Path]:
        """The absolute paths of the folders, each once, whatever it is called."""
        paths: dict[Identity | Path, Path] = {}
        for folder in self.folders:
            paths.setdefault(identity_at(folder) or folder.absolute(), folder.absolute())
        return list(paths.values())

    def own_places(self) -> OwnPlaces:
        """What is in the folders but was not dropped. Raises SettingsError where one is something else as well."""
        return OwnPlaces(self.settings, self.paths, self.disposition.outputs)

    def folder(self, path: Path, own: OwnPlaces, said: Said, now: float | None = None) -> DropFolder:
        """The folder at ``path``; ``now`` is the time by its clock, where the age of files counts."""
        settings = self.settings
        return DropFolder(path, self.rules, self.disposition, own, settings.spool, settings.user, said, now)

    def tell_of_submitted(self, folder: DropFolder) -> list[Job]:
        """The jobs that the folder has submitted since this was last asked, which the audience is told of."""
        submitted = folder.take_submitted()
        for new in submitted:
            self.audience.queued(new.job)
            for warning in new.warnings:
                self.observe(new.job).warn(f"{new.job.name}: {warning}")
        return [new.job for new in submitted]
