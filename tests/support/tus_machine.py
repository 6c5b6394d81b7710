"""Sequences of tus's requests, and of deaths of the server: none makes it lose, invent or repeat anything.

A model says what each request must be answered, and what must be in the spool and the job store in the end.
"""

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import requests
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from .tus import PIECE, V, checksum

MOST_RESTARTS = 2
# What is drawn must not depend on what is there: so it is a number, of the uploads that there are then.
WHICH = st.integers(0, 1000)
BODIES = st.binary(max_size=40)
LENGTHS = st.integers(0, 60)
SUMS = st.sampled_from(["none", "none", "good", "good", "bad", "unknown"])
METADATA = f"filename {b64encode(b'a.tar').decode()},empty"


class Deployment(Protocol):
    """One server, or several, that can die."""

    def ask(self, method: str, path: str, headers: dict[str, str], body: bytes | None = None) -> requests.Response:
        """What a server answers."""

    def restart(self) -> None:
        """A server dies, and is started anew."""

    def age(self, path: str) -> None:
        """Have it be so long ago that something came of an upload that it expires."""

    def check_spool(self, uploads: "Sequence[Known]") -> None:
        """Every byte is there, and nothing else: what is no bundle fails as a job, and keeps its bytes."""

    def jobs_of(self, path: str) -> list[str]:
        """The ids of the jobs of an upload."""


@dataclass
class Known:
    """What must be known of an upload."""

    path: str
    length: int | None
    concat: str = ""
    metadata: str = ""
    content: bytes = b""
    parts: tuple[str, ...] = ()
    is_gone: bool = False
    is_joined: bool = False
    job: str = ""

    @property
    def is_partial(self) -> bool:
        return self.concat == "partial"

    @property
    def is_whole(self) -> bool:
        return len(self.content) == self.length

    @property
    def is_job(self) -> bool:
        return self.is_whole and not self.is_partial

    def added(self, body: bytes, given: str) -> int:
        """Add a body with this kind of checksum; the status of the answer."""
        if given == "unknown":
            return 400
        if self.length is not None and len(self.content + body) > self.length:
            return 413
        if given == "bad":
            return 460
        self.content += body
        return 204

    def declared(self, length: int) -> int:
        """Learn the length now; the status of the answer."""
        if length < len(self.content) or self.length not in (None, length):
            return 400
        self.length = length
        return 204


def sum_of(body: bytes, given: str) -> dict[str, str]:
    sums = {
        "good": checksum(body, "sha256"),
        "bad": checksum(body + b"x", "md5"),
        "unknown": {"Upload-Checksum": "x y"},
    }
    return sums.get(given, {})


class TusMachine(RuleBasedStateMachine):
    def __init__(self, deployment: Deployment) -> None:
        super().__init__()
        self.there = deployment
        self.uploads: list[Known] = []
        self.restarts = 0

    def ask(
        self, method: str, path: str, headers: dict[str, str], body: bytes | None = None, *, override: bool = False
    ) -> requests.Response:
        if override:
            method, headers = "POST", {**headers, "X-HTTP-Method-Override": method}
        answer = self.there.ask(method, path, headers, body)
        assert answer.status_code < 500, answer.text
        assert answer.headers["Tus-Resumable"] == "1.0.0"
        return answer

    def any_upload(self, which: int) -> Known:
        return self.uploads[which % len(self.uploads)]

    # Creation

    @initialize()
    def some(self) -> None:
        self.create(length=10, is_deferred=False, is_partial=False, slash="")
        self.create(length=5, is_deferred=False, is_partial=True, slash="/")
        self.create_with_body(length=7, is_deferred=False, is_partial=True, body=b"1234567", given="good")

    @rule(length=LENGTHS, is_deferred=st.booleans(), is_partial=st.booleans(), slash=st.sampled_from(["", "/"]))
    def create(self, length: int, is_deferred: bool, is_partial: bool, slash: str) -> None:
        upload, headers = self.new(length, is_deferred=is_deferred, is_partial=is_partial)
        self.created(upload, self.ask("POST", f"/files{slash}", {**V, **headers}))

    @rule(length=LENGTHS, is_deferred=st.booleans(), is_partial=st.booleans(), body=BODIES, given=SUMS)
    def create_with_body(self, length: int, is_deferred: bool, is_partial: bool, body: bytes, given: str) -> None:
        upload, headers = self.new(length, is_deferred=is_deferred, is_partial=is_partial)
        answer = self.ask("POST", "/files", {**PIECE, **headers, **sum_of(body, given)}, body)
        status = upload.added(body, given) if length or is_deferred else 413 if body else 204
        if status == 204:
            self.created(upload, answer)
        else:
            assert answer.status_code == status

    def new(self, length: int, *, is_deferred: bool, is_partial: bool) -> tuple[Known, dict[str, str]]:
        upload = Known("", None if is_deferred else length, "partial" if is_partial else "", METADATA)
        said = {"Upload-Defer-Length": "1"} if is_deferred else {"Upload-Length": str(length)}
        concat = {"Upload-Concat": "partial"} if is_partial else {}
        return upload, {**said, **concat, "Upload-Metadata": METADATA}

    def created(self, upload: Known, answer: requests.Response) -> None:
        assert answer.status_code == 201
        upload.path = answer.headers["Location"]
        self.uploads.append(upload)
        self.check_progress(upload, answer)

    # What is done with an upload

    @rule(which=WHICH, shift=st.sampled_from([0, 0, 0, 1, -1]), body=BODIES, given=SUMS, override=st.booleans())
    def patch(self, which: int, shift: int, body: bytes, given: str, override: bool) -> None:
        self.patched(self.any_upload(which), shift, body, given, None, override=override)

    @rule(which=WHICH, body=BODIES, given=SUMS, length=st.one_of(LENGTHS, st.none()))
    def patch_with_length(self, which: int, body: bytes, given: str, length: int | None) -> None:
        """The length is any, or that which ends the upload."""
        upload = self.any_upload(which)
        self.patched(upload, 0, body, given, len(upload.content + body) if length is None else length, override=False)

    @rule(which=WHICH)
    def end(self, which: int) -> None:
        upload = self.any_upload(which)
        self.patched(upload, 0, bytes(max(0, (upload.length or 0) - len(upload.content))), "none", None, override=False)

    def patched(
        self, upload: Known, shift: int, body: bytes, given: str, length: int | None, *, override: bool
    ) -> None:
        offset = max(0, len(upload.content) + shift)
        headers = {**PIECE, "Upload-Offset": str(offset), **sum_of(body, given)}
        if length is not None:
            headers["Upload-Length"] = str(length)
        answer = self.ask("PATCH", upload.path, headers, body, override=override)
        assert answer.status_code == self.expected(upload, offset, body, given, length), answer.text
        if answer.status_code == 204:
            self.check_progress(upload, answer)

    def expected(self, upload: Known, offset: int, body: bytes, given: str, length: int | None) -> int:
        if upload.is_gone or upload.parts:
            return 404 if upload.is_gone else 403
        if offset != len(upload.content):
            return 409
        if upload.is_whole:
            return 413 if body else 204
        if length is not None and (status := upload.declared(length)) != 204:
            return status
        return upload.added(body, given)

    @rule(which=WHICH, override=st.booleans())
    def head(self, which: int, override: bool) -> None:
        self.check(self.any_upload(which), override=override)

    @rule(which=WHICH)
    def terminate(self, which: int) -> None:
        upload = self.any_upload(which)
        status = self.ask("DELETE", upload.path, V).status_code
        assert status == (404 if upload.is_gone else 403 if upload.is_job else 204)
        upload.is_gone = upload.is_gone or status == 204

    @rule(which=WHICH)
    def expire(self, which: int) -> None:
        upload = self.any_upload(which)
        if upload.is_gone or upload.is_job:
            return
        self.there.age(upload.path)
        assert self.ask("HEAD", upload.path, V).status_code in (404, 410)
        upload.is_gone = True

    @rule(which=st.lists(WHICH, min_size=1, max_size=3), only_parts=st.sampled_from([True, True, False]))
    def join(self, which: list[int], only_parts: bool) -> None:
        among = [upload for upload in self.uploads if upload.is_partial or not only_parts]
        self.joined([among[number % len(among)] for number in which])

    @rule(which=st.lists(WHICH, min_size=1, max_size=3))
    def join_what_is_whole(self, which: list[int]) -> None:
        among = [upload for upload in self.uploads if upload.is_partial and upload.is_whole and not upload.is_gone]
        if among:
            self.joined([among[number % len(among)] for number in which])

    def joined(self, parts: list[Known]) -> None:
        paths = tuple(part.path for part in parts)
        concat = f"final;{' '.join(paths)}"
        answer = self.ask("POST", "/files", {**V, "Upload-Concat": concat})
        again = next((upload for upload in self.uploads if upload.parts == paths), None)
        if again is not None:
            assert answer.headers["Location"] == again.path
            self.check_progress(again, answer)
            return
        status = next(filter(None, map(self.problem_of, parts)), 201)
        assert answer.status_code == status, answer.text
        if status == 201:
            content = b"".join(part.content for part in parts)
            for part in parts:
                part.is_joined = True
            self.created(Known("", len(content), concat, "", content, paths), answer)

    def problem_of(self, part: Known) -> int | None:
        """The status with which it is refused as a part."""
        if part.is_gone:
            return 404
        if not part.is_partial:
            return 400
        if part.is_joined:
            return 410
        return None if part.is_whole else 400

    # What else may happen

    @precondition(lambda self: self.restarts < MOST_RESTARTS)
    @rule()
    def restart(self) -> None:
        self.restarts += 1
        self.there.restart()

    @rule(which=WHICH, method=st.sampled_from(["HEAD", "PATCH", "DELETE"]))
    def speak_another_version(self, which: int, method: str) -> None:
        headers = {**PIECE, "Tus-Resumable": "0.2.2", "Upload-Offset": "0"}
        answer = self.ask(method, self.any_upload(which).path, headers, b"" if method == "PATCH" else None)
        assert (answer.status_code, answer.headers["Tus-Version"]) == (412, "1.0.0")

    # What must hold

    def check(self, upload: Known, *, override: bool = False) -> None:
        answer = self.ask("HEAD", upload.path, V, override=override)
        if upload.is_gone:
            assert answer.status_code == 404
            return
        assert answer.status_code == 200
        assert answer.headers.get("Upload-Length") == (None if upload.length is None else str(upload.length))
        assert answer.headers.get("Upload-Defer-Length") == ("1" if upload.length is None else None)
        assert answer.headers.get("Upload-Concat", "") == upload.concat
        assert answer.headers.get("Upload-Metadata", "") == upload.metadata
        self.check_progress(upload, answer)

    def check_progress(self, upload: Known, answer: requests.Response) -> None:
        assert answer.headers["Upload-Offset"] == str(len(upload.content))
        assert ("Ingest-Job-Id" in answer.headers) == upload.is_job
        assert ("Upload-Expires" in answer.headers) == (not upload.is_job)
        if upload.is_job:
            upload.job = upload.job or answer.headers["Ingest-Job-Id"]
            assert answer.headers["Ingest-Job-Id"] == upload.job

    def teardown(self) -> None:
        for upload in self.uploads:
            self.check(upload)
        self.there.check_spool(self.uploads)
        self.check_jobs()
        for upload in self.uploads:
            if not upload.is_job:
                self.ask("DELETE", upload.path, V)

    def check_jobs(self) -> None:
        for upload in self.uploads:
            assert self.there.jobs_of(upload.path) == ([upload.job] if upload.job else [])
            assert bool(upload.job) == upload.is_job


def walk(deployment: Deployment, examples: int, steps: int) -> None:
    """Walk through so many sequences of so many steps."""

    class Machine(TusMachine):
        def __init__(self) -> None:
            super().__init__(deployment)

    # Steps are requests, and deaths of a server: to look for a shorter sequence would take minutes.
    how = settings(max_examples=examples, stateful_step_count=steps, phases=[Phase.generate])
    run_state_machine_as_test(Machine, settings=how)
