"""File system events of drop folders: a reason to scan, and which files were renamed into place."""

import sys
import threading
from pathlib import Path

from watchdog.events import DirMovedEvent, FileMovedEvent, FileSystemEvent, FileSystemEventHandler
from watchdog.observers.api import BaseObserver


class Events:
    """Native events of ``folders``; a lost one loses nothing, since folders are looked at now and then anyway."""

    def __init__(self, folders: list[Path], wake: threading.Event) -> None:
        self._handler = _Handler(wake)
        self._observer = _observer()
        for folder in folders:
            self._observer.schedule(self._handler, str(folder))
        self._observer.start()

    def renamed(self) -> set[Path]:
        """The files renamed into place since the last call."""
        return self._handler.take_renamed()

    def close(self) -> None:
        """Stop listening."""
        self._observer.stop()
        self._observer.join()


class _Handler(FileSystemEventHandler):
    def __init__(self, wake: threading.Event) -> None:
        self._wake = wake
        self._lock = threading.Lock()
        self._renamed: set[Path] = set()

    def on_any_event(self, event: FileSystemEvent) -> None:
        if event.event_type in ("opened", "closed_no_write"):
            return  # our own looking
        if isinstance(event, FileMovedEvent | DirMovedEvent):
            with self._lock:
                self._renamed.add(Path(_text(event.dest_path)))
        self._wake.set()

    def take_renamed(self) -> set[Path]:
        with self._lock:
            renamed, self._renamed = self._renamed, set()
        return renamed


def _observer() -> BaseObserver:
    if sys.platform.startswith("linux"):
        from watchdog.observers.inotify import InotifyObserver

        # Full events tell a file that was renamed into the folder from one that is being written there.
        return InotifyObserver(generate_full_events=True)
    from watchdog.observers import Observer

    return Observer()


def _text(path: bytes | str) -> str:
    return path if isinstance(path, str) else path.decode(errors="surrogateescape")
