"""A scene: one run is frozen at a step, another actor does as it likes, the first thaws; and what must hold then.

What holds is read from outside only: the archive itself, the catalogue's tables, and what the command line says.
"""

import json
import random
import re
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .bundles import FILES, file_record, transaction, write_bundle
from .command import TIME
from .shown import is_stored
from .site import is_mark
from .stepping import Order, Outcome, Stepper
from .trials import Trial

# The trial that each kind of scene is played with.
KINDS = {
    "bundle": "bundle",
    "large bundle": "large bundle",
    "packed": "packed",
    "move": "move",
    "move across": "move across",
    "bundle over HTTP": "bundle over HTTP",
    "move over HTTP": "move over HTTP",
    "bundle over S3": "bundle over S3",
    "move over S3": "move over S3",
    "bundle over PostgreSQL": "bundle over PostgreSQL",
    "move over PostgreSQL": "move over PostgreSQL",
    "discard": "bundle",
    "discard of a move": "move",
    "drop folder": "bundle",
}
# What takes the place of the trial's files: others, and one more.
REPLACED = {f"data/new/{number}": f"new {number}\n".encode() * (number + 1) for number in range(len(FILES) + 1)}
TIMINGS = {"stale": 0.05, "busy": 0.2}
# Nothing waits longer than this for a run that is frozen: a second of the program's own, on a busy machine.
PATIENCE = 4.0
# Each of very many answers comes by way of another process, which has the same machine.
LONGER = 15.0
# One that is frozen while it sends a file leaves its place to no one; there is a place for each file besides.
ROOM = {"ARCHIVEINTERFACE_TRANSFERS": "8"}
NO_CATALOGUE = {"METADATA_INGEST_URL": "http://127.0.0.1:9/ingest"}
BY_HAND = "by hand"
WELL, TOLD = (0,), (0, 1, 4)
Files = dict[str, bytes]


@dataclass
class Bystander:
    """A job that the others have nothing to do with, and all that there is of it."""

    words: list[str]
    files: Files
    job_id: int | None = None
    stored: dict[int, bytes] = field(default_factory=dict)
    state: dict[str, Any] = field(default_factory=dict)


class Scene:
    """``kind`` of run at the site of ``trial``: the first actor is ``here``, others may be ``there``, another host."""

    def __init__(self, trial: Trial, kind: str, here: Stepper, there: Stepper, chance: random.Random) -> None:
        self.trial, self.here, self.there, self.chance = trial, here, there, chance
        self.over_http = trial.pacific is not None
        self.given = self._place(kind)
        self.ingest = [*trial.words[:-1], str(self.given)]
        self.words, self.again, self.plain = self.ingest, [self.ingest], [self.ingest]
        self.bystanders: list[Bystander] = []
        self.discarded: int | None = None
        self.settled = self.replaced = self.in_flight = False
        # Of the first actor, when it was frozen.
        self.jobs: list[str] = []
        self._old = self.given.read_bytes()
        # Frozen now and then in the midst of a heartbeat.
        self.timings = {**TIMINGS, "heartbeat": chance.choice([0.002, 1.0])}
        self.add_bystander("earlier")
        if kind.startswith("discard"):
            self.run(here, self.ingest, ends=(4,), environment=NO_CATALOGUE)
            (job,) = self.others()
            self.words = ["discard", str(job["job_id"])]
            self.again, self.plain = [self.words], [self.words, self.ingest]
        elif kind == "drop folder":
            self.words = ["watch", "--once", "--settle", "0", str(self.given.parent)]
            self.again = self.plain = [self.words, self.ingest]

    def _place(self, kind: str) -> Path:
        given = Path(self.trial.words[-1])
        if kind != "drop folder":
            return given
        drop = self.trial.folder / "drop"
        drop.mkdir()
        return given.rename(drop / given.name)

    def order(self, words: Sequence[str], *, environment: dict[str, str] | None = None, **fault: Any) -> Order:
        return Order(
            words=list(words),
            folder=str(self.trial.folder),
            environment={**self.trial.environment, **(environment or {})},
            timings=self.timings,
            kept=self.trial.kept,
            patience=LONGER if self.trial.asks_others else PATIENCE,
            **fault,
        )

    def run(self, stepper: Stepper, words: Sequence[str], *, ends: Sequence[int] = TOLD, **fault: Any) -> Outcome:
        """Run a command, which ends in one of these ways."""
        outcome = stepper(self.order(words, **fault))
        assert_told(outcome, words, ends)
        return outcome

    # What others do while the first is frozen, or behind it.

    def meanwhile(self) -> None:
        """A job that comes while the first is frozen, as most do."""
        self.jobs = [str(job["job_id"]) for job in self.others()]
        self.add_bystander("meanwhile")

    def finishes(self) -> None:
        """The same is done from another host, unless what the first has locked cannot be had."""
        busy = self.over_http or self.locked()
        for words in self.again:
            must = words == self.ingest and not busy
            self.run(self.there, words, ends=WELL if must else TOLD, environment=ROOM)
        if self.words[0] == "discard" and not busy:
            self._assert_discarded(int(self.words[1]))

    def fails(self) -> Callable[[], None]:
        """It is tried from another host, but comes to an end in the midst of it; then a third comes, now or later."""
        fault = self.chance.choice(["kill", "full"])
        step = self.chance.randint(1, 120)
        words, lasting = self.again[-1], fault == "full"
        ends = (*TOLD, -9)
        self.run(self.there, words, ends=ends, environment=ROOM, fault=fault, step=step, lasting=lasting)
        third = self.chance.choice([self.here, self.there])

        def finish() -> None:
            self.run(third, words, environment=ROOM)

        if self.chance.random() < 0.5:
            return finish
        finish()
        return lambda: None

    def settles(self) -> None:
        """An administrator, here or there, decides otherwise."""
        administrator = self.chance.choice([self.here, self.there])
        by_hand = ["--state", "FAILED", "--task", "ingest files", "--task-percent", "0", "--exception", BY_HAND]
        for job_id in self.jobs:
            other = ["retry", job_id] if self.words[0] == "discard" else ["discard", job_id]
            words = self.chance.choice([["job", "--job-id", job_id, *by_hand], other])
            done = self.run(administrator, words, environment=ROOM)
            self.settled = done.status == 0
            self.discarded = int(job_id) if words[0] == "discard" and self.settled else None

    def replaces(self) -> None:
        """Another file comes to stand at the place of the one given, and is ingested from another host.

        Now and then whoever is there goes on with the job first, as if its file were what it was.
        """
        self.replaced = True
        aside = self.given.with_name(".new")
        if self.words[0] == "move" or self.trial.sources:
            aside.write_text(json.dumps(self._moved_document()))
        else:
            write_bundle(aside, REPLACED, mode="w:gz" if self._old[:2] == b"\x1f\x8b" else "w")
        self._put(aside.read_bytes())
        aside.unlink()
        ways = [[], [["retry", job_id] for job_id in self.jobs]]
        if not self.locked():  # which a worker waits for
            ways.append([["worker", "--until-empty"]])
        for words in self.chance.choice(ways):
            self.run(self.there, words, environment=ROOM)
        self.run(self.there, self.ingest, environment=ROOM)

    def _put(self, content: bytes) -> None:
        """Replace the file given, by a rename or in its place."""
        if self.chance.random() < 0.5:
            self.given.write_bytes(content)
            return
        aside = self.given.with_name(".aside")
        aside.write_bytes(content)
        aside.rename(self.given)

    def _moved_document(self) -> list[dict[str, Any]]:
        records = transaction()
        for path, content in REPLACED.items():
            source = self._new_sources / path
            source.parent.mkdir(parents=True, exist_ok=True)
            source.write_bytes(content)
            records.append(file_record(path, content, source=str(source)))
        return records

    @property
    def _new_sources(self) -> Path:
        return self.trial.folder / "another instrument"

    def add_bystander(self, name: str) -> None:
        """Another job, whose file ids come right behind those that were given out last."""
        files = {f"data/{name}/{number}": f"{name} {number}\n".encode() for number in range(2)}
        bundle = write_bundle(self.trial.folder / f"{name}.tar", files)
        self.bystanders.append(Bystander(["--json", str(bundle)], files))
        self._complete(self.bystanders[-1], ends=(0, 4))

    def _complete(self, bystander: Bystander, ends: Sequence[int] = WELL) -> None:
        done = self.run(self.here, bystander.words, ends=ends, environment=ROOM)
        if done.status != 0:
            return
        bystander.state = json.loads(done.stdout)
        bystander.job_id = int(bystander.state["job_id"])
        rows = self.trial.catalogued()[bystander.job_id]
        stored, _ = self.archived()
        bystander.stored = {row["_id"]: stored[row["_id"]] for row in rows}
        assert sorted(bystander.stored.values()) == sorted(bystander.files.values())

    def locked(self) -> bool:
        """Whether the one that is frozen holds a database, or something in it."""
        if self.trial.postgres is not None and self.trial.url is not None:
            return self.trial.postgres.is_in_a_transaction(self.trial.url)
        for path in self.trial.data.glob("*.sqlite3"):
            with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as connection:
                try:
                    connection.execute("BEGIN IMMEDIATE")
                    connection.execute("ROLLBACK")
                except sqlite3.OperationalError:
                    return True
        return False

    def states(self) -> list[dict[str, Any]]:
        """Every job as ``ingest state`` has it; none while that cannot be told."""
        done = self.run(self.here, ["state", "--json", "--count", "1000"])
        return list(json.loads(done.stdout)) if done.status == 0 else []

    def others(self) -> list[dict[str, Any]]:
        """The jobs that are no bystanders'."""
        ids = {bystander.job_id for bystander in self.bystanders}
        return [job for job in self.states() if job["job_id"] not in ids]

    def archived(self) -> tuple[dict[int, bytes], list[Path]]:
        """The archive's files by their ids, and what has none."""
        if self.trial.pacific is not None or self.trial.storage is not None:
            return self.trial.archived(), []
        stored, strays = {}, []
        for path in self.trial.site.archive.rglob("*"):
            if path.is_dir() or is_mark(path):
                continue
            inner = path.relative_to(self.trial.site.archive)
            found = re.fullmatch(r"(?:file\.)?([0-9a-f]+)", path.name)
            if found is None or inner.parts[0].startswith(".ingest"):
                strays.append(inner)
            else:
                stored[int(found[1], 16)] = path.read_bytes()
        return stored, strays

    # What must hold.

    def assert_quiet(self) -> None:
        """The first has thawed, and nobody is at work."""
        self.trial.wait_for_services()
        self.trial.assert_nothing_lost()
        self._assert_files_untouched()
        if self.discarded is not None and not self.in_flight:
            self._assert_discarded(self.discarded)

    def end(self) -> None:
        """The plain commands end what is left, and all is as it must be."""
        for bystander in self.bystanders:
            if bystander.job_id is None:
                self._complete(bystander)
        if (self.settled or (self.replaced and self.trial.sources)) and self.in_flight:
            # A request that was on its way cannot be called back: the site obeys it, whatever was rolled back since.
            return
        for words in self.plain:
            done = self.run(self.here, words)
            if words[0] == "discard" and done.status == 0 and not self.replaced:
                self._assert_discarded(int(words[1]))
        if done.status != 0:
            self.run(self.here, self.plain[-1], ends=WELL)
        for job in self.others():
            if job["status"] == "undoing":  # what could not be rolled back while the first was frozen is the queue's
                self.run(self.here, ["retry", str(job["job_id"])])
        if self.replaced and self.trial.sources and not all(map(Path.exists, self.trial.sources.values())):
            self._go_on_with_the_old()
        self.run(self.here, ["verify", "--all"], ends=WELL)
        self.trial.wait_for_services()
        self._assert_sound()

    def _go_on_with_the_old(self) -> None:
        """Only its document says where moved files belong: a job that needs it says so, and goes on when it is back."""
        if any(not is_stored(job) for job in self.others()):
            assert any(job["state"] == "FAILED" and job["exception"] for job in self.others()), self.others()
            self._put(self._old)
            self.run(self.here, self.ingest, ends=WELL)

    def _assert_discarded(self, job_id: int) -> None:
        """Nothing is left of it, and sources are back unless another job has taken them."""
        stored, _ = self.archived()
        rows = [row for rows in self.trial.catalogued().values() for row in rows]
        assert sorted(stored) == sorted(row["_id"] for row in rows), "something is left of what was discarded"
        complete = [job["job_id"] for job in self.others() if is_stored(job)]
        assert job_id not in complete, f"job {job_id} was discarded, and is complete"
        if complete:
            return
        for path, source in self.trial.sources.items():
            assert source.exists(), f"the source of {path} is not back"
            assert source.read_bytes() == FILES[path]

    def _assert_files_untouched(self) -> None:
        stored, _ = self.archived()
        for bystander in self.bystanders:
            found = {file_id: stored.get(file_id) for file_id in bystander.stored}
            assert found == bystander.stored, f"files of job {bystander.job_id}, another one, were touched"

    def _assert_sound(self) -> None:
        self._assert_files_untouched()
        states = {job["job_id"]: job for job in self.states()}
        for bystander in self.bystanders:
            if bystander.job_id:
                assert states[bystander.job_id].items() >= bystander.state.items()
        stored, strays = self.archived()
        catalogued = self.trial.catalogued()
        if self.in_flight and self.replaced:
            # The old document may have been on its way when its job was rolled back.
            for job_id in [job_id for job_id in catalogued if str(job_id) in self.jobs]:
                if not is_stored(states[job_id]):
                    del catalogued[job_id]
        contents = {job_id: _name_of(rows, stored) for job_id, rows in catalogued.items()}
        wanted = {None: len(self.bystanders), "new" if self.replaced else "old": 1}
        counted = {name: list(contents.values()).count(name) for name in (None, "old", "new")}
        assert {name: counted[name] for name in wanted} == wanted, f"{contents} of {states}"
        assert counted["old"] <= 1, "stored twice"
        self._assert_states(states, set(catalogued))
        self._assert_no_orphans(stored, strays, {row["_id"] for rows in catalogued.values() for row in rows})
        self._assert_sources(moved=counted["old"] == 1)

    def _assert_states(self, states: dict[int, dict[str, Any]], recorded: set[int]) -> None:
        for job_id in recorded:
            # Of what was recorded already an administrator may say what he likes.
            said = self.settled and states[job_id]["exception"] == BY_HAND
            assert is_stored(states[job_id]) or said, f"the catalogue holds job {job_id}: {states[job_id]}"
        for job_id, state in states.items():
            assert job_id in recorded or is_stored(state) or state["state"] == "FAILED", state

    def _assert_no_orphans(self, stored: dict[int, bytes], strays: list[Path], owned: set[int]) -> None:
        assert strays == [], "temporary files are left in the archive"
        orphans = {file_id: content for file_id, content in stored.items() if file_id not in owned}
        if self.in_flight and len(orphans) <= 1:
            assert set(orphans.values()) <= set(FILES.values())
            return
        assert orphans == {}, "files of no complete job are left in the archive"

    def _assert_sources(self, *, moved: bool) -> None:
        if not self.trial.sources:
            return
        standing = {path for path, source in self.trial.sources.items() if source.exists()}
        if not (self.in_flight and self.replaced):  # its source was looked for already
            assert standing == (set() if moved else set(FILES)), "sources of a move stand neither here nor there"
        for folder in {source.parent for source in self.trial.sources.values()}:
            named = {source.name for source in self.trial.sources.values()}
            assert {path.name for path in folder.iterdir() if path.is_file()} <= named, "a file beside a source"
        if self._new_sources.exists():
            assert not any(path.is_file() for path in self._new_sources.rglob("*"))


def assert_told(outcome: Outcome, words: Sequence[str], ends: Sequence[int] = TOLD) -> None:
    """It ended in one of these ways, with a sentence where not well."""
    if words[0] == "watch":
        ends = (*ends, 3)  # some of what is in the folder failed
    said = f"{' '.join(words)!r} ended with {outcome.status}, not {ends}: {outcome.stdout}{outcome.stderr}"
    assert outcome.status in ends, f"{said} {outcome.hit}"
    assert "Traceback" not in outcome.stderr, said
    if outcome.status > 0:
        assert re.search(rf"^({TIME})?ingest: ", outcome.stderr, re.M), said


def _name_of(rows: list[dict[str, Any]], stored: dict[int, bytes]) -> str | None:
    """What a transaction is of, having seen that the archive has just that; None of a bystander."""
    files = {"/".join(filter(None, ["data", row["subdir"], row["name"]])): stored.get(row["_id"]) for row in rows}
    for name, known in {"old": FILES, "new": REPLACED}.items():
        if set(files) == set(known):
            wrong = [path for path in files if files[path] != known[path]]
            assert not wrong, f"a complete job's files are wrong or missing in the archive: {wrong}"
            return name
    return None
