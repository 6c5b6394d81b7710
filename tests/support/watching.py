"""What tests of drop folders share."""

import subprocess
from contextlib import suppress
from pathlib import Path

from .bundles import FILES
from .command import Command
from .site import Site

SETTLE = 0.6


def looks_on(pid: int) -> bool:
    """Whether the kernel tells the process of changes by now."""
    with suppress(FileNotFoundError):
        return any("inotify wd:" in path.read_text() for path in Path(f"/proc/{pid}/fdinfo").iterdir())
    return False


def settled(site: Site, count: int = 1) -> bool:
    """Whether there are so many jobs, and all have ended."""
    if not site.settings.database.exists():
        return False
    jobs = site.jobs()
    return len(jobs) == count and all(job.is_done or job.has_failed for job in jobs)


def once(command: Command, drop: Path, *words: object) -> subprocess.CompletedProcess[str]:
    """A single run that has no patience."""
    return command("watch", "--once", "--settle", 0.05, "--patience", 0, drop, *words)


def visible(drop: Path) -> list[str]:
    """The names in a folder that are not hidden."""
    return sorted(path.name for path in drop.iterdir() if not path.name.startswith("."))


def make_folder(folder: Path, files: dict[str, bytes] | None = None) -> Path:
    """A folder that is packed into a bundle of these files."""
    for name, content in (FILES if files is None else files).items():
        path = folder / name.removeprefix("data/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder
