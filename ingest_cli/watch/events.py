"""File system events of drop folders: which names there is something new of, and which were renamed into place."""

import os
import sys
import threading
from collections import defaultdict
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

    def take(self) -> "Told":
        """What was told since the last call."""
        return self._handler.take()

    def close(self) -> None:
        """Stop listening."""
        self._observer.stop()
        self._observer.join()


class Told:
    """What the kernel tells: by folder, the names that there is something new of, and those renamed into place."""

    def __init__(self) -> None:
        self.news: dict[str, set[str]] = defaultdict(set)
        self.renamed: dict[str, set[str]] = defaultdict(set)


class _Handler(FileSystemEventHandler):
    def __init__(self, wake: threading.Event) -> None:
        self._wake = wake
        self._lock = threading.Lock()
        self._told = Told()

    def on_any_event(self, event: FileSystemEvent) -> None:
        if event.event_type in ("opened", "closed_no_write"):
            return  # our own looking
        came, went = os.path.split(_text(event.dest_path)), os.path.split(_text(event.src_path))
        with self._lock:
            for folder, name in (came, went):
                self._told.news[folder].add(name)
            if isinstance(event, FileMovedEvent | DirMovedEvent):
                self._told.renamed[came[0]].add(came[1])
        self._wake.set()

    def take(self) -> Told:
        with self._lock:
            told, self._told = self._told, Told()
        return told


def _observer() -> BaseObserver:
    if sys.platform.startswith("linux"):
        from watchdog.observers.inotify import InotifyObserver

        # Full events tell a file that was renamed into the folder from one that is being written there.
        return InotifyObserver(generate_full_events=True)
    from watchdog.observers import Observer

    return Observer()


def _text(path: bytes | str) -> str:
    return path if isinstance(path, str) else path.decode(errors="surrogateescape")
