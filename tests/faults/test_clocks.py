"""Clocks that are stepped, hosts that change their names, boots and disks: a job is whose it was, and what it was."""

import json
import re
import shutil
import subprocess
import threading
from bisect import bisect_left
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ..support.actors import NO_CATALOGUE, PATIENCE, assert_told
from ..support.bundles import FILES, write_bundle, write_bundles
from ..support.clocks import Clock
from ..support.command import Command
from ..support.forks import Running
from ..support.hosts import host, new_boot, skip_unless_possible
from ..support.pacifica_double import Handler, PacificaSite
from ..support.shown import is_stored
from ..support.site import Site
from ..support.stepping import MAIN, Order, Outcome, Stepper
from ..support.trials import Trial, Trials
from ..support.waiting import until

pytestmark = pytest.mark.sweep

DAY = timedelta(days=1)
BUNDLES = 7
DISK_BYTES = 8 << 20


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    return Clock(tmp_path)


@pytest.fixture
def trials(tmp_path: Path) -> Trials:
    return Trials(tmp_path)


@pytest.fixture
def trial(trials: Trials) -> Iterator[Trial]:
    with trials("bundle") as trial:
        yield trial


class Gate:
    """A policy service that holds every document back until it is told to let them go."""

    def __init__(self, pacific: PacificaSite) -> None:
        self._pacific, self._open = pacific, threading.Event()
        pacific.guard = self._hold
        self.environment = {"POLICY_INGEST_URL": f"{pacific.url}/policy"}

    def _hold(self, handler: Handler) -> bool:
        self._open.wait(60)
        return False

    @property
    def held(self) -> int:
        """How many documents have come, which is how many runs have got so far."""
        return len(self._pacific.requests)

    def open(self) -> None:
        self._open.set()


@pytest.fixture
def gate() -> Iterator[Gate]:
    with PacificaSite() as pacific:
        gate = Gate(pacific)
        yield gate
        gate.open()


def has_open(process: int, path: Path) -> bool:
    return any(fd.exists() and fd.resolve() == path for fd in Path(f"/proc/{process}/fd").iterdir())


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="sees by /proc that a worker has begun")
def test_no_job_is_taken_from_a_living_worker(
    clock: Clock,
    gate: Gate,
    command: Command,
    site: Site,
    tmp_path: Path,
    starting: Callable[..., Running],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in {**clock.environment, **gate.environment}.items():
        monkeypatch.setenv(name, value)
    assert command("--queue", "--quiet", *write_bundles(tmp_path, BUNDLES)).returncode == 0
    crew = starting("worker", "--workers", BUNDLES, "--until-empty", "--quiet")
    until(lambda: gate.held == BUNDLES)
    idle = starting("worker", "--quiet")
    until(lambda: has_open(idle.pid, site.database))
    taken = {}
    for by in (DAY, 40 * DAY, -DAY):
        clock.step(by)
        # Longer than a heartbeat is apart from the next, and than an idle worker's looks are.
        with pytest.raises(subprocess.TimeoutExpired):
            idle.wait(1.5)
        taken[f"{by.days} days"] = gate.held - BUNDLES
    gate.open()
    assert crew.wait(30) == 0
    assert set(taken.values()) == {0}, f"jobs taken from the living: {taken}"
    jobs = json.loads(command("state", "--json").stdout)
    assert len(jobs) == BUNDLES
    assert all(is_stored(job) for job in jobs)
    assert site.contents() == {f"data/{number}": bytes([number]) for number in range(BUNDLES)}


def jobs_of(stepper: Stepper, trial: Trial) -> list[dict[str, Any]]:
    done = stepper(trial.order_of("state", "--json"))
    assert done.status == 0, done.stderr
    return list(json.loads(done.stdout))


def work(stepper: Stepper, trial: Trial, environment: dict[str, str] | None = None) -> Outcome:
    order = trial.order_of("worker", "--until-empty")
    return stepper(Order(**{**vars(order), "environment": {**order.environment, **(environment or {})}}))


@pytest.mark.parametrize("ahead", [0, 30], ids=["right", "ahead"])
def test_a_job_rests_no_longer_than_it_may(clock: Clock, trial: Trial, ahead: int) -> None:
    """Deferred for seconds; after a clock that was a month ahead it would be for a month."""
    with Stepper(environment=clock.environment) as stepper:
        assert stepper(trial.order_of("--queue", *trial.words)).status == 0
        clock.step(ahead * DAY)
        work(stepper, trial, NO_CATALOGUE)
        assert [is_stored(job) for job in jobs_of(stepper, trial)] == [False]
        assert sorted(trial.archived().values()) == sorted(FILES.values()), "it went as far as the catalogue"
        clock.step(timedelta())
        work(stepper, trial)
        assert [is_stored(job) for job in jobs_of(stepper, trial)] == [bool(ahead)]


@pytest.mark.parametrize("days", [-40, 40])
def test_times_are_of_utc_whatever_the_clock_and_the_zone(
    clock: Clock, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, days: int
) -> None:
    for name, value in {**clock.environment, "TZ": "HERE+5"}.items():
        monkeypatch.setenv(name, value)
    clock.step(days * DAY)
    assert command(write_bundle(tmp_path / "b.tar"), "--quiet").returncode == 0
    clock.step(timedelta())
    (job,) = json.loads(command("state", "--json").stdout)
    for key in ("created", "updated"):
        assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6}", job[key])
        told = datetime.fromisoformat(job[key]).replace(tzinfo=UTC)
        assert abs(told - datetime.now(UTC) - days * DAY) < timedelta(minutes=1)
    assert f"{job['created']} UTC" in command("state", 1).stdout


# Hosts.


@pytest.fixture(scope="module")
def midway(tmp_path_factory: pytest.TempPathFactory) -> int:
    """The step of a run before which the first file comes into the archive."""
    trials = Trials(tmp_path_factory.mktemp("midway"))
    with Stepper() as stepper:
        with trials("bundle") as trial:
            total = trial.run(stepper).steps[MAIN]

        def has_stored(step: int) -> bool:
            with trials("bundle") as trial:
                trial.run(stepper, step=step)
                return any(trial.site.archive.rglob("file.*"))

        return bisect_left(range(total + 1), True, lo=1, key=has_stored)


def kill_midway(stepper: Stepper, trial: Trial, midway: int) -> None:
    """Kill the trial's run when it has begun to store files."""
    assert trial.run(stepper, step=midway).status == -9
    assert [is_stored(job) for job in jobs_of(stepper, trial)] == [False]


def finish_at_once(stepper: Stepper, trial: Trial) -> None:
    """Nothing is waited for that only time would tell."""
    done = trial.run(stepper, patience=PATIENCE)
    assert_told(done, trial.words, (0,))
    trial.assert_sound(1, jobs=1)


@pytest.fixture
def boots(tmp_path: Path) -> list[Path]:
    return [new_boot(tmp_path / f"boot {number}") for number in range(2)]


def test_a_host_that_was_renamed_goes_on_with_its_jobs(trial: Trial, midway: int) -> None:
    before, after = host("before", processes=False), host("after", processes=False)
    skip_unless_possible(before)
    with Stepper(before) as stepper:
        kill_midway(stepper, trial, midway)
    with Stepper(after) as stepper:
        finish_at_once(stepper, trial)


def test_a_host_that_was_booted_again_goes_on_with_its_jobs(
    trial: Trial, trials: Trials, midway: int, boots: list[Path]
) -> None:
    """Also where another process has the id that the dead one had."""
    before, after = (host("lab", boot=boot) for boot in boots)
    skip_unless_possible(before)
    with Stepper(before) as stepper:
        # First, since the first child of each has the same id.
        kill_midway(stepper, trial, midway)
    with (
        Stepper(after) as stepper,
        trials("bundle") as another,
        stepper.frozen(another.order(fault="freeze", step=1)),
    ):
        finish_at_once(stepper, trial)


@pytest.mark.parametrize("days", [-40, 0, 40])
def test_two_hosts_of_one_name_and_of_different_clocks_do_not_take_each_others_jobs(
    trial: Trial, gate: Gate, tmp_path: Path, days: int
) -> None:
    """As containers are, which do not see each other's processes."""
    place = host("lab")
    skip_unless_possible(place)
    trial.environment.update(gate.environment)
    with ExitStack() as stack:
        environment = {}
        if days:
            clock = Clock(tmp_path)
            clock.step(days * DAY)
            environment = clock.environment
        holder = stack.enter_context(Stepper(host("lab", processes=False), environment))
        watcher = stack.enter_context(Stepper(place))
        running = stack.enter_context(ThreadPoolExecutor(1)).submit(holder, trial.order(timings={"heartbeat": 0.02}))
        stack.callback(gate.open)
        until(lambda: gate.held == 1)
        done = watcher(trial.order(patience=PATIENCE))
        assert done.status == 4, f"the job was taken from a living process: {done}"
        assert_told(done, trial.words, (4,))
        gate.open()
        assert_told(running.result(), trial.words, (0,))
    trial.wait_for_services()
    trial.assert_sound(1, jobs=1)


@pytest.mark.parametrize("days", [-40, 40])
def test_a_dead_host_is_missed_soon_whatever_its_clock_was(clock: Clock, trial: Trial, midway: int, days: int) -> None:
    place = host("elsewhere")
    skip_unless_possible(place)
    with Stepper(place, clock.environment) as stepper:
        clock.step(days * DAY)
        kill_midway(stepper, trial, midway)
        clock.step(timedelta())
    with Stepper() as stepper:
        done = trial.run(stepper, timings={"stale": 0.2}, patience=PATIENCE)
        assert_told(done, trial.words, (0,))
        trial.assert_sound(1, jobs=1)


# Disks.


class Disk:
    """A disk in a file, mounted under a number that the system gives it anew each time."""

    def __init__(self, folder: Path) -> None:
        if any(shutil.which(name, path="/usr/sbin:/sbin:/usr/bin:/bin") is None for name in ("losetup", "mkfs.ext4")):
            pytest.skip("there are no losetup and mkfs.ext4, which make a disk of a file")
        self._image, self._other, self.folder = folder / "image", folder / "other image", folder / "disk"
        for image in (self._image, self._other):
            with image.open("wb") as file:
                file.truncate(DISK_BYTES)
        self.folder.mkdir()
        self._loops: list[str] = []
        self._run("mkfs.ext4", "-q", "-F", str(self._image))
        self.mount()

    def mount(self) -> None:
        loop = self._attach(self._image)
        self._run("mount", loop, str(self.folder))

    def unmount(self) -> None:
        self._run("umount", str(self.folder))
        self._run("losetup", "-d", self._loops.pop())

    def renumber(self) -> None:
        """As a boot does that finds another disk first."""
        before, loop = self.folder.stat().st_dev, self._loops[-1]
        self.unmount()
        self._attach(self._other, loop)
        self.mount()
        if self.folder.stat().st_dev == before:
            pytest.skip("the disk came to have the same number")

    def close(self) -> None:
        subprocess.run(["umount", str(self.folder)], capture_output=True)
        for loop in self._loops:
            subprocess.run(["losetup", "-d", loop], capture_output=True)

    def _attach(self, image: Path, loop: str | None = None) -> str:
        if loop is not None:
            self._run("losetup", loop, str(image))
        else:
            loop = self._run("losetup", "--find", "--show", str(image)).strip()
        self._loops.append(loop)
        return loop

    def _run(self, *line: str) -> str:
        done = subprocess.run(line, capture_output=True, text=True)
        if done.returncode != 0:
            self.close()
            pytest.skip(f"no disk can be made of a file here: {done.stderr.strip()}")
        return done.stdout


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    disk = Disk(tmp_path)
    yield disk
    disk.close()


@pytest.mark.parametrize("killed", [False, True], ids=["complete", "killed"])
def test_a_bundle_on_a_disk_that_has_another_number_is_the_same(
    trial: Trial, midway: int, disk: Disk, killed: bool
) -> None:
    bundle = shutil.copy2(trial.words[0], disk.folder / "b.tar")
    trial.words = [str(bundle)]
    with Stepper() as stepper:
        if killed:
            kill_midway(stepper, trial, midway)
        else:
            finish_at_once(stepper, trial)
        disk.renumber()
        finish_at_once(stepper, trial)
