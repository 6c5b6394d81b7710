"""Frozen at any step while others do as they like, a run that thaws harms nothing, and the job is done once.

INGEST_TEST_STEPS=all visits every step, a number so many of each kind; INGEST_TEST_SEED chooses which.
"""

import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import pytest

from ..support.actors import KINDS, ROOM, TOLD, WELL, Scene, assert_told
from ..support.hosts import host, new_boot
from ..support.hosts import skip_unless_possible as skip_unless_host
from ..support.shown import is_stored
from ..support.stepping import MAIN, Frozen, Stepper
from ..support.trials import SEED, STEPS, Tally, Trials, sample, skip_unless_possible

pytestmark = pytest.mark.sweep

Record = Callable[[str, object], None]


@pytest.fixture(scope="module")
def here() -> Iterator[Stepper]:
    with Stepper() as program:
        yield program


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Stepper]]:
    """Another host, and a container of this one."""
    places = [host("elsewhere", boot=new_boot(tmp_path_factory.mktemp("elsewhere"))), host("container")]
    skip_unless_host(places[0])
    with Stepper(places[0]) as other, Stepper(places[1]) as container:
        yield [other, container]


@pytest.fixture
def trials(tmp_path: Path, request: pytest.FixtureRequest) -> Trials:
    servers = [partial(request.getfixturevalue, name) for name in ("strict_storage", "postgres_server")]
    return Trials(tmp_path, *servers)


@pytest.fixture(scope="module")
def counted() -> dict[str, int]:
    """How many steps each kind of run has, once that was seen."""
    return {}


@pytest.fixture(
    params=[
        pytest.param(kind, marks=[pytest.mark.cluster] if kind.endswith(("S3", "PostgreSQL")) else []) for kind in KINDS
    ]
)
def kind(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    skip_unless_possible(KINDS[request.param], tmp_path)
    return str(request.param)


class Stage:
    """Where scenes are played."""

    def __init__(self, trials: Trials, here: Stepper, elsewhere: list[Stepper]) -> None:
        self._trials, self.here, self._elsewhere = trials, here, elsewhere

    @contextmanager
    def scene(self, kind: str, step: int = 0) -> Iterator[Scene]:
        chance = random.Random(f"{SEED} {kind} {step}")
        with self._trials(KINDS[kind]) as trial:
            yield Scene(trial, kind, self.here, chance.choice(self._elsewhere), chance)

    @contextmanager
    def frozen(self, kind: str, step: int) -> Iterator[tuple[Scene, Frozen]]:
        """A run that is frozen at this step, or some steps before where it is over by then: a run asks the more often
        whether it is to stop, the slower it is. What goes wrong is told with where that was."""
        with ExitStack() as stack:
            for earlier in range(step, 0, -7):
                scene = stack.enter_context(self.scene(kind, earlier))
                order = scene.order(scene.words, fault="freeze", step=earlier)
                frozen = stack.enter_context(self.here.frozen(order))
                if frozen.stands_still:
                    break
                stack.close()
            assert frozen.stands_still
            scene.in_flight = scene.over_http and frozen.hit.startswith("socket")
            try:
                yield scene, frozen
            except Exception as error:
                raise AssertionError(f"frozen at {frozen.hit}: {error}") from error


@pytest.fixture
def stage(trials: Trials, here: Stepper, elsewhere: list[Stepper]) -> Stage:
    return Stage(trials, here, elsewhere)


def steps_of(stage: Stage, kind: str, counted: dict[str, int], name: str) -> list[int]:
    """The steps of a run that nothing disturbs, or a sample: half of the usual size, for there are many ways to disturb
    it, and behind the first third, in which databases are opened."""
    if kind not in counted:
        with stage.scene(kind) as scene:
            outcome = scene.run(stage.here, scene.words, ends=WELL, fault="freeze")
            counted[kind] = outcome.steps[MAIN]
            scene.end()
    total = counted[kind]
    if STEPS == "all":
        return sample(total, name)
    opening = total // 3
    return [opening + step for step in sample(total - opening, name)][:: min(2, int(STEPS))]


@pytest.mark.parametrize("action", ["finishes", "fails", "settles", "replaces"])
def test_frozen_while_another(
    stage: Stage, kind: str, action: str, counted: dict[str, int], record_property: Record
) -> None:
    tally, name = Tally(), f"{kind}, frozen while another {action}"
    for step in steps_of(stage, kind, counted, name):
        with tally.fault(f"{name}, step {step}"), stage.frozen(kind, step) as (scene, frozen):
            scene.meanwhile()
            behind = getattr(scene, action)()
            assert_told(frozen.thaw(), scene.words)
            scene.assert_quiet()
            if behind is not None:
                behind()
            scene.end()
    tally.close(record_property, name)


@pytest.mark.parametrize("kind", ["bundle", "move", "bundle over HTTP"], indirect=True)
def test_a_frozen_run_of_this_host_is_not_dead(
    stage: Stage, kind: str, counted: dict[str, int], record_property: Record
) -> None:
    tally, name = Tally(), f"{kind}, frozen on this host"
    for step in steps_of(stage, kind, counted, name):
        with tally.fault(f"{name}, step {step}"), stage.frozen(kind, step) as (scene, frozen):
            at_work = [job for job in scene.others() if not is_stored(job)]
            scene.run(stage.here, scene.words, ends=(4,) if at_work else TOLD, environment=ROOM)
            for job in at_work:
                state = scene.run(stage.here, ["state", str(job["job_id"])])
                assert "stopped" in state.stdout or state.status != 0, state.stdout
            assert_told(frozen.thaw(), scene.words, WELL)
            scene.end()
            assert {job["job_id"] for job in at_work} <= {job["job_id"] for job in scene.others() if is_stored(job)}
    tally.close(record_property, name)
