"""What was said of a drop folder's files: each thing once, and not again while the file stays as it is."""

import json
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ..disk import durable_write
from ..errors import ExitCode, IngestError
from ..jobs.job import Job
from ..text import listed, quoted

# After so long without it, what passes is said again when it is back.
AGAIN_SECONDS = 600.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Audience:
    """Who is told what happens: ``problem`` what went wrong, ``notice`` what else a person may want to know, where
    anybody does, and ``queued`` which jobs were made of files."""

    problem: Callable[[str], None]
    notice: Callable[[str], None] | None
    queued: Callable[[Job], None]


class Said:
    """Tells the ``audience`` of the files in ``folder``. What is in the file ``memory`` was said by another process.

    What passes is said of the first file that it concerns, and not remembered for another process.
    """

    def __init__(self, folder: Path, audience: Audience, memory: Path | None = None) -> None:
        self._folder, self._audience, self._memory = folder, audience, memory
        self._said: dict[str, str] = {}
        self.problems: list[ExitCode] = []
        if memory is not None:
            with suppress(OSError, ValueError):
                self._said = dict(json.loads(memory.read_bytes()))
        self._passing: dict[str, float] = {}
        self._remembered = dict(self._said)

    def problem(self, name: str, fingerprint: str, error: Exception) -> bool:
        """Say what is wrong with a file; return whether that is news."""
        text = in_words(error, self._folder / name)
        if isinstance(error, IngestError) and error.transient:
            if not self._is_new_again(str(error)):
                return False
        elif not self._is_news(name, f"{fingerprint} {text}"):
            return False
        self.problems.append(error.exit_code if isinstance(error, IngestError) else ExitCode.FAILED)
        self._audience.problem(text)
        return True

    def left(self, reason: str, files: Iterable[tuple[str, str]]) -> None:
        """Say which files, of these names and fingerprints, are left for another time, and why."""
        self._list("left for the next run", reason, files)

    def passed_over(self, reason: str, names: Iterable[str]) -> None:
        """Say which files are not ingested, and why."""
        self._list("passed over", reason, ((name, "") for name in names))

    def keep(self, names: Iterable[str]) -> None:
        """Forget what was said of files with other names: they are gone."""
        present = set(names)
        self._said = {name: said for name, said in self._said.items() if name in present}

    def save(self) -> None:
        """Keep in memory what was said."""
        if self._memory is None or self._said == self._remembered:
            return
        # What cannot be kept is said once more.
        with suppress(OSError):
            self._memory.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with durable_write(self._memory, replace=True) as file:
                file.write(json.dumps(self._said).encode())

    def _list(self, what: str, reason: str, files: Iterable[tuple[str, str]]) -> None:
        if self._audience.notice is None:
            return
        news = [name for name, fingerprint in files if self._is_news(name, f"{fingerprint} {reason}")]
        if news:
            self._audience.notice(
                f"{self._folder}: {what}: {listed([quoted(name) for name in sorted(news)])}: {reason}"
            )

    def _is_new_again(self, text: str) -> bool:
        """Whether nothing was said of what passes for so long that it may have passed."""
        now = time.monotonic()
        last, self._passing[text] = self._passing.get(text), now
        return last is None or now - last > AGAIN_SECONDS

    def _is_news(self, name: str, said: str) -> bool:
        is_news = self._said.get(name) != said
        self._said[name] = said
        return is_news


def in_words(error: Exception, path: Path) -> str:
    """What is wrong with the file or folder at ``path``, which is named in it."""
    text = str(error) if isinstance(error, IngestError) else f"{type(error).__name__}: {error}"
    return text if str(path.parent) in text else f"{path}: {text}"
