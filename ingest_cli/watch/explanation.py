"""Why a file of a drop folder needs a person: JSON in a file beside it, under its own name and ``.error.json``."""

import errno
import hashlib
import json
import os
import re
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..disk import durable_write, fitting
from ..jobs.job import Job

Story = dict[str, Any]
SUFFIX = ".error.json"
# What is larger is no explanation: a reason is cut, so that none is.
MAX_BYTES = 1 << 20
MAX_REASON = 50_000
CORRECT = "put the corrected file into the drop folder under the same name: it will become a new job"
REMOVE = "ingest what is archived nowhere in another bundle, then delete this one by hand"


def story_of_refused(path: Path, reason: str) -> Story:
    """What to write of a file that cannot become a job."""
    return {"file": _text(path.name), "exception": reason[:MAX_REASON], "what_next": CORRECT}


def story_of_failed(path: Path, job: Job) -> Story:
    """What to write of a file whose job failed."""
    return _of_job(path, job, job.exception, "failed", CORRECT)


def story_of_kept(path: Path, job: Job, reason: str) -> Story:
    """What to write of a file that was ingested, but may not be deleted."""
    return _of_job(path, job, reason, "kept", REMOVE)


def is_explained(path: Path, story: Story) -> bool:
    """Whether just this is written beside ``path``."""
    found = _found(path)
    return found is not None and found[1] == story


def is_kept(path: Path, job: Job) -> bool:
    """Whether it is written beside ``path`` that the file was ingested by the job, but may not be deleted."""
    found = _found(path)
    return found is not None and found[1].get("job_id") == job.job_id and "kept" in found[1]


def explain(path: Path, story: Story) -> Path:
    """Write the story beside ``path``, and return where. Raises OSError.

    It takes the place of an earlier one. Where something else has its name, or where the name would be too long, it
    gets another, which begins in the same way.
    """
    text = _escaped(json.dumps(story, indent=2, ensure_ascii=False)) + "\n"
    for place in _places(path):
        with suppress(FileNotFoundError):
            if _read(place) is None:
                continue
        try:
            with durable_write(place, mode=0o644, replace=True) as file:
                file.write(text.encode())
            return place
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise
    raise FileExistsError(errno.EEXIST, "other files have the names of its explanation")


def remove_explanation(path: Path) -> None:
    """Remove what is written beside ``path`` by `explain`. Raises OSError."""
    found = _found(path)
    if found is not None:
        found[0].unlink(missing_ok=True)


def _of_job(path: Path, job: Job, reason: str, since: str, what_next: str) -> Story:
    return {
        "file": _text(path.name),
        "job_id": job.job_id,
        "task": job.task,
        "exception": reason[:MAX_REASON],
        since: f"{job.updated} UTC",
        "what_next": what_next,
    }


def _text(name: str) -> str:
    return os.fsencode(name).decode(errors="replace")


def _places(path: Path) -> Iterator[Path]:
    """Where an explanation may be, best first."""
    yield path.with_name(path.name + SUFFIX)
    digest = hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]
    yield path.with_name(fitting(path.name, f".{digest}{SUFFIX}", path.parent))


def _found(path: Path) -> tuple[Path, Story] | None:
    for place in _places(path):
        try:
            story = _read(place)
        except FileNotFoundError:
            return None  # the first place that is free would have been taken
        if story is not None:
            return place, story
    return None


def _read(place: Path) -> Story | None:
    """The explanation at ``place``; None where something else is there. Raises FileNotFoundError where nothing is."""
    try:
        descriptor = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise
    except OSError:
        return None
    try:
        found = os.fstat(descriptor)
        is_possible = stat.S_ISREG(found.st_mode) and found.st_size <= MAX_BYTES
        story = json.loads(os.read(descriptor, MAX_BYTES)) if is_possible else None
    except (OSError, ValueError, RecursionError):
        return None
    finally:
        os.close(descriptor)
    return story if isinstance(story, dict) and {"file", "what_next"} <= story.keys() else None


def _escaped(text: str) -> str:
    """JSON, with what a terminal might obey in the escapes of JSON."""
    return re.sub(r"[^\n -~]", lambda char: char[0] if char[0].isprintable() else json.dumps(char[0])[1:-1], text)
