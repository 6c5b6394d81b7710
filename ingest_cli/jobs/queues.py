"""Which of several hosts can run a job: all of them, where what it is of is shared; else the one that it lies on."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from ..errors import SettingsError
from ..mounts import on_network
from ..settings import Cluster
from ..settings.cluster import MAX_HOST
from .job import JobKind
from .process import host_name

SHARED, LOCAL = "shared", "local:"


@dataclass(frozen=True, slots=True)
class Queues:
    """The queues of this ``host``: of what lies on its own disks, and of what all hosts see.

    The folders ``folders`` are seen by all, and so is any network file system.
    """

    host: str
    folders: tuple[Path, ...] = ()

    @classmethod
    def of_host(cls, cluster: Cluster) -> "Queues":
        """Those of a host as it is set up. Raises SettingsError where its name cannot be that of a queue."""
        host = cluster.host or host_name()
        if not re.fullmatch(rf"[A-Za-z0-9._-]{{1,{MAX_HOST}}}", host):
            raise SettingsError(f"this machine's name {host!r} cannot be that of a queue: set [cluster] host")
        return cls(host, cluster.shared)

    @property
    def local(self) -> str:
        """The queue of what only this host can read."""
        return f"{LOCAL}{self.host}"

    @property
    def names(self) -> list[str]:
        """The queues whose jobs this host can run."""
        return [self.local, SHARED]

    def queue_of(self, kind: JobKind, source: str) -> str:
        """The queue of a job that is submitted here.

        A document of files to move stays here, wherever it lies: what it lists may lie anywhere.
        """
        if source.startswith("s3://"):
            return SHARED
        path = Path(os.path.realpath(source))
        is_shared = any(path.is_relative_to(os.path.realpath(folder)) for folder in self.folders) or on_network(path)
        return SHARED if is_shared and kind is not JobKind.MOVE else self.local
