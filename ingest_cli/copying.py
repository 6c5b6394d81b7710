"""Files and folders that are linked, moved or copied to where nothing may exist, and appear there whole."""

import errno
import os
import shutil
import stat
from pathlib import Path

from .disk import CANNOT_LINK, durable_write, opened, rename_new, require_free, sync_file_system


def restore_to(place: Path, kept: Path) -> None:
    """Link or copy the file at ``kept`` to ``place``, where it appears whole and nothing may exist. Raises OSError.

    A file that has other names is copied, so that writing to it at ``place`` does not change those.
    """
    try:
        if kept.stat().st_nlink > 1:
            raise OSError(errno.EMLINK, os.strerror(errno.EMLINK))
        os.link(kept, place)
    except OSError as error:
        if error.errno not in CANNOT_LINK:
            raise
        copy_to(place, kept)


def move_to(kept: Path, place: Path) -> None:
    """Move the file at ``kept`` to ``place``: it appears whole, and is always at one of both.

    Raises OSError: FileExistsError where there is another file at ``place``. The file is then still at ``kept``.
    """
    restore_to(place, kept)
    kept.unlink()


def copy_to(place: Path, kept: str | Path, folder: int | None = None) -> None:
    """Copy a file, its mode and its times to ``place``, where it appears whole and durable and nothing may exist.

    A relative ``kept`` is in the folder open as ``folder``. A link is not followed. Raises OSError.
    """
    descriptor = os.open(kept, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    with os.fdopen(descriptor, "rb") as stored:
        found = os.fstat(descriptor)
        with durable_write(place, mode=stat.S_IMODE(found.st_mode)) as file:
            shutil.copyfileobj(stored, file, 1 << 20)
            file.flush()
            os.utime(file.fileno(), ns=(found.st_atime_ns, found.st_mtime_ns))


def copy_tree(place: Path, kept: str, folder: int) -> None:
    """Copy the folder ``kept``, in the folder open as ``folder``, as `copy_to` does a file; links stay links.

    Raises OSError where there is anything in it but files, folders and links.
    """
    require_free(place)
    aside = place.with_name(f".ingest-{os.urandom(8).hex()}.part")
    folders = []
    try:
        for path, _, _, descriptor in os.fwalk(kept, onerror=_raise, dir_fd=folder):
            copy = aside / Path(path).relative_to(kept)
            copy.mkdir(mode=0o700)
            folders.append((copy, os.fstat(descriptor)))
            for name in os.listdir(descriptor):
                found = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
                if stat.S_ISREG(found.st_mode):
                    copy_to(copy / name, name, descriptor)
                elif stat.S_ISLNK(found.st_mode):
                    (copy / name).symlink_to(os.readlink(name, dir_fd=descriptor))
                elif not stat.S_ISDIR(found.st_mode):
                    raise OSError(errno.EINVAL, f"{path}/{name} is not a file, folder or link", f"{path}/{name}")
        for copy, found in reversed(folders):
            copy.chmod(stat.S_IMODE(found.st_mode))
            os.utime(copy, ns=(found.st_atime_ns, found.st_mtime_ns))
        sync_file_system(aside)
        rename_new(aside, place)
        with opened(place.parent) as above:
            os.fsync(above)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _raise(error: OSError) -> None:
    raise error
