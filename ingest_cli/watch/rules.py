"""Which files in drop folders to ingest, and when they count as complete."""

import re
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Any

from ..bundle.pack_rules import USUAL, PackRules
from ..jobs.job import JobKind
from .disposition import ERROR_SUFFIX

# Names under which programs write what is not whole yet: browsers, WinSCP, rsync, editors, Windows.
IN_FLIGHT = re.compile(r"^[.~]|~$|\.(part|partial|tmp|temp|filepart|crdownload|download|swp|lock)$", re.IGNORECASE)
PATTERNS = {
    JobKind.BUNDLE: ("*.tar", "*.tar.gz", "*.tgz", "*.tar.bz2", "*.tbz2", "*.tar.xz", "*.txz"),
    JobKind.MOVE: ("*.json",),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class WatchRules:
    """Which files to ingest, and when they count as complete.

    A file is stable once it is unchanged for ``settle`` seconds; one that is not a complete tar then has ``patience``
    seconds more. With ``marker``, a file NAME is complete once NAME.done exists, and not before. ``patterns`` are the
    names to ingest, those of ``kind`` unless given. With a ``template``, the records of a document that are not of
    files, sub-folders are packed and ingested instead, of which ``packing`` says what is packed.
    """

    kind: JobKind = JobKind.BUNDLE
    settle: float = 5.0
    patience: float = 60.0
    marker: bool = False
    patterns: tuple[str, ...] = ()
    template: list[dict[str, Any]] | None = None
    packing: PackRules = USUAL

    def is_wanted(self, name: str) -> bool:
        """Whether a file of this name is ingested."""
        if IN_FLIGHT.search(name) or name.endswith(ERROR_SUFFIX):
            return False
        known = ("*",) if self.template is not None else PATTERNS[self.kind]
        return any(fnmatch(name.lower(), pattern.lower()) for pattern in self.patterns or known)
