"""Which files in drop folders to ingest, and when they count as complete."""

import re
import stat
from dataclasses import dataclass
from fnmatch import translate
from functools import cache
from typing import Any

from ..bundle.pack_rules import USUAL, PackRules
from ..jobs.job import JobKind
from .explanation import SUFFIX as ERROR_SUFFIX

MARKER = ".done"
# Names under which programs write what is not whole yet: browsers, WinSCP, rsync, editors, Windows.
IN_FLIGHT = re.compile(r"^[.~]|~\Z|\.(part|partial|tmp|temp|filepart|crdownload|download|swp|lock)\Z", re.IGNORECASE)
# Those of a file in a folder, where hidden files are data like others; also what Office, LibreOffice and editors keep
# beside a file while they have it open.
IN_FLIGHT_WITHIN = re.compile(
    r"^(\..+\.[a-z0-9]{6}|~\$.*|\.~lock\..*|\.~tmp~|\.rsync-partial|\.goutputstream-.*|\..+\.sw[op])\Z"
    r"|\.(part|partial|tmp|filepart|crdownload|download|aria2)\Z",
    re.IGNORECASE,
)
PATTERNS = {
    JobKind.BUNDLE: ("*.tar", "*.tar.gz", "*.tgz", "*.tar.bz2", "*.tbz2", "*.tar.xz", "*.txz"),
    JobKind.MOVE: ("*.json",),
}
NAMED_LIKE = {JobKind.BUNDLE: "a tar", JobKind.MOVE: "a JSON document"}


@dataclass(frozen=True, kw_only=True, slots=True)
class WatchRules:
    """Which files to ingest, and when they count as complete.

    A file is stable once it is unchanged for ``settle`` seconds; one that is not whole then has ``patience`` seconds
    more. With ``marker``, a file NAME is complete once NAME.done exists, and not before. ``patterns`` are the names to
    ingest, those of ``kind`` unless given. With a ``template``, the records of a document that are not of files,
    sub-folders are packed and ingested instead, of which ``packing`` says what is packed.
    """

    kind: JobKind = JobKind.BUNDLE
    settle: float = 5.0
    patience: float = 60.0
    marker: bool = False
    patterns: tuple[str, ...] = ()
    template: list[dict[str, Any]] | None = None
    packing: PackRules = USUAL

    @property
    def packs(self) -> bool:
        """Whether sub-folders are ingested, and not files."""
        return self.template is not None

    def is_ours(self, name: str) -> bool:
        """Whether the name is a temporary one, or of something that is written or read beside the files."""
        is_marker = self.marker and name.endswith(MARKER)
        return is_marker or name.endswith(ERROR_SUFFIX) or IN_FLIGHT.search(name) is not None

    def why_not(self, name: str, mode: int) -> str | None:
        """Why a file of this name and mode is not ingested: it is passed over as that. None where it is ingested.

        The reason is empty where nobody needs to be told.
        """
        if self.patterns and not self._is_named_so(name):
            return ""  # who gives patterns knows that there are other files
        # A link's target may change without a trace here; a FIFO would block whoever opens it.
        if stat.S_ISLNK(mode):
            return "links are not followed"
        if self.packs:
            return None if stat.S_ISDIR(mode) else "with --pack, only folders are ingested"
        if stat.S_ISDIR(mode):
            return "folders are ingested with --pack only"
        if not self._is_named_so(name):
            return f"not named like {NAMED_LIKE[self.kind]}, see --pattern"
        return None if stat.S_ISREG(mode) else "not a regular file"

    @property
    def names(self) -> tuple[str, ...]:
        """The names to ingest."""
        return self.patterns or (("*",) if self.packs else PATTERNS[self.kind])

    def _is_named_so(self, name: str) -> bool:
        return _pattern(self.names).match(name) is not None


@cache
def _pattern(names: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(map(translate, names)), re.IGNORECASE)
