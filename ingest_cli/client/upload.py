"""Uploads: one item after the other, each from its files to the end of its job at the server."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..bundle.fingerprint import fingerprint, fingerprint_of
from ..bundle.gather import gather
from ..bundle.pack import write_bundle
from ..bundle.pack_rules import PackRules
from ..disk import explained
from ..errors import IngestError, Interrupted, SourceError, Unavailable, UploadRefused
from ..throttle import Throttle
from .observer import State, UploadObserver
from .retries import Retries
from .server import Features, IngestServer
from .source import Source
from .target import Target
from .tus import TusUpload
from .unfinished import Unfinished, key_of, sweep, unfinished
from .waiting import JobFailed, JobUnknown, NotYet, detailed, wait


@dataclass(frozen=True, kw_only=True, slots=True)
class Packing:
    """How files become a bundle: the ``records`` of its document besides theirs, and the ``names`` that they and
    folders have in it; None for those that `gather` gives them."""

    records: list[dict[str, Any]]
    rules: PackRules
    names: tuple[str, ...] | None = None

    @property
    def said(self) -> list[dict[str, Any]]:
        """The records without what else could have been chosen, which others may change from day to day."""
        return [{key: value for key, value in record.items() if key != "query_results"} for record in self.records]


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """What is uploaded as one bundle: the files and folders at ``paths``, or the bundle there without ``packing``.

    ``name`` is what a person calls it.
    """

    name: str
    paths: tuple[Path, ...]
    packing: Packing | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Terms:
    """How uploads are done: with how many bytes a second at most; for how many seconds a failure may last; whether, and
    for how many seconds at most, a job is waited for."""

    rate: float | None = None
    patience: float = 300.0
    waits: bool = True
    longest_wait: float | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of one item: the last state of its job, if it got that far, and the error that ended it, if any."""

    item: Item
    state: State | None
    error: IngestError | None = None


# Makes an observer from an item's name, its number, and how many there are.
Observe = Callable[[str, int, int], UploadObserver]


class Uploader:
    """Uploads to the server at ``target``. ``folder`` is where unfinished uploads are noted, and bundles packed."""

    def __init__(self, server: IngestServer, target: Target, folder: Path, terms: Terms) -> None:
        self._server, self._target, self._folder, self._terms = server, target, folder, terms
        self._throttle = Throttle(terms.rate)
        self._features: Features | None = None

    def upload_all(self, items: Sequence[Item], observe: Observe) -> Iterator[Outcome]:
        """Upload the items in order, and yield what came of each; the failure of one does not stop the others."""
        sweep(self._folder)
        for number, item in enumerate(items, 1):
            yield self._outcome(item, observe(item.name, number, len(items)))

    def upload(self, item: Item, observer: UploadObserver) -> State:
        """Upload an item, or resume it where an earlier run was cut off; the last state of its job.

        Raises JobFailed where that failed for good, NotYet where it has not ended, and what keeps it from being sent.
        """
        with unfinished(self._folder, self._key(item)) as record:
            try:
                state = self._finish(item, record, observer)
            except (JobFailed, JobUnknown, UploadRefused):
                record.forget()
                raise
            record.forget()
            return state

    def _outcome(self, item: Item, observer: UploadObserver) -> Outcome:
        try:
            with observer:
                try:
                    state = detailed(self._server, self.upload(item, observer))
                except (JobFailed, NotYet) as error:
                    error.state = detailed(self._server, error.state)
                    observer.settled(error.state)
                    raise
                if self._terms.waits:
                    observer.settled(state)
                else:
                    observer.accepted(state)
        except Interrupted:
            raise
        except IngestError as error:
            return _failed(item, error, observer)
        except OSError as error:
            return _failed(item, explained(error, f"cannot read {error.filename}", SourceError), observer)
        return Outcome(item, state)

    def _key(self, item: Item) -> str:
        packing = item.packing
        how = None if packing is None else [packing.said, packing.names, asdict(packing.rules)]
        # What was begun in another user's name is not to be resumed, nor its job to be waited for, in this one's.
        to = [self._target.url, self._target.user]
        return key_of(to, [str(path.absolute()) for path in item.paths], how)

    def _finish(self, item: Item, record: Unfinished, observer: UploadObserver) -> State:
        retries = Retries(self._terms.patience, observer)
        earlier = self._begin(item, record)
        if earlier is None:
            return self._send_and_wait(item, record, retries, observer)
        try:
            return self._wait(earlier, retries, observer)
        except JobUnknown:  # the server, or its job store, is another one by now
            record.renew()
            return self._send_and_wait(item, record, retries, observer)

    def _begin(self, item: Item, record: Unfinished) -> int | None:
        """The job that an earlier run was waiting for, of the same content."""
        outdated = record.begin(_content_of(item))
        if outdated is not None:
            # Or it would be kept there, for days, for something that does not exist any more.
            with suppress(IngestError):
                self._server.remove(outdated)
        return record.job_id

    def _send_and_wait(self, item: Item, record: Unfinished, retries: Retries, observer: UploadObserver) -> State:
        bundle = item.paths[0] if item.packing is None else self._packed(item, item.packing, record, observer)
        with Source(bundle, self._throttle, observer.sent) as source:
            if not source.length:
                raise SourceError(f"{bundle} is empty")
            features = self._known_features(retries)
            if features.resumes:
                job_id = TusUpload(self._server, source, record, retries, observer, features.checksum).send()
            else:
                job_id = self._post(source, retries, observer)
        record.accepted(job_id)
        return self._wait(job_id, retries, observer)

    def _packed(self, item: Item, packing: Packing, record: Unfinished, observer: UploadObserver) -> Path:
        """The bundle of the item's files, which an earlier run may have made."""
        if not record.bundle.exists():
            record.renew()
            observer.packing()
            packed = write_bundle(
                item.paths, packing.records, record.bundle, packing.rules, names=packing.names, meter=observer
            )
            for warning in packed.warnings:
                observer.warn(warning)
        return record.bundle

    def _known_features(self, retries: Retries) -> Features:
        while self._features is None:
            try:
                self._features = self._server.features()
            except Unavailable as error:
                retries.wait(error, getattr(error, "at_least", 0.0))
        return self._features

    def _post(self, source: Source, retries: Retries, observer: UploadObserver) -> int:
        """Send the bundle in one request, from its beginning each time."""
        while True:
            observer.sending(source.length, 0)
            try:
                job_id: int = self._server.post(source.part(0, source.length))["job_id"]
            except Unavailable as error:
                retries.wait(error, getattr(error, "at_least", 0.0))
            else:
                return job_id

    def _wait(self, job_id: int, retries: Retries, observer: UploadObserver) -> State:
        if self._terms.waits:
            return wait(self._server, job_id, retries, observer, self._terms.longest_wait)
        try:
            return self._server.state(job_id) or {"job_id": job_id}
        except Unavailable:  # it has the bundle, which is all that is asked for
            return {"job_id": job_id}


def _failed(item: Item, error: IngestError, observer: UploadObserver) -> Outcome:
    observer.failed(error)
    return Outcome(item, getattr(error, "state", None), error)


def _content_of(item: Item) -> str:
    """By what it is seen that an item is not what it was any more. Raises what reading and gathering raise."""
    if item.packing is None:
        return fingerprint(item.paths[0])
    found = gather(item.paths, item.packing.rules, names=item.packing.names)
    files = [(file.name, fingerprint_of(file.found)) for file in found.files]
    return hashlib.sha256(json.dumps(files).encode()).hexdigest()
