"""Killed or failing at any step, a job is finished by the next run: the same job, nothing lost, nothing twice.

INGEST_TEST_STEPS=all visits every step, a number so many of each kind; INGEST_TEST_SEED chooses which.
"""

import random
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

import pytest

from ..support.stepping import MAIN, OTHERS, Outcome, Stepper
from ..support.trials import SEED, Tally, Trial, Trials, finish, sample, skip_unless_possible

pytestmark = pytest.mark.sweep

KINDS = [
    *("bundle", "large bundle", "packed", "folder", "move", "move across"),
    *("bundle over HTTP", "folder over HTTP", "move over HTTP", "bundle and events"),
    *(pytest.param(kind, marks=pytest.mark.cluster) for kind in ("bundle over S3", "move over S3")),
    *(pytest.param(kind, marks=pytest.mark.cluster) for kind in ("bundle over PostgreSQL", "move over PostgreSQL")),
]
Record = Callable[[str, object], None]


@pytest.fixture(scope="module")
def stepper() -> Iterator[Stepper]:
    with Stepper() as program:
        yield program


@pytest.fixture
def trials(tmp_path: Path, request: pytest.FixtureRequest) -> Trials:
    servers = [partial(request.getfixturevalue, name) for name in ("strict_storage", "postgres_server")]
    return Trials(tmp_path, *servers)


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    skip_unless_possible(request.param, tmp_path)
    return str(request.param)


def steps_of(stepper: Stepper, trials: Trials, kind: str, fault: str, thread: str = MAIN) -> int:
    """How many steps a run has that nothing disturbs, and that it is a sound one."""
    with trials(kind) as trial:
        outcome = trial.run(stepper, fault=fault, thread=thread)
        assert outcome.status == 0, outcome.stderr
        trial.assert_sound(1, jobs=1)
        return outcome.steps[thread]


@contextmanager
def explained(outcome: Outcome) -> Iterator[None]:
    """Say of what goes wrong in this block at which step the fault was, and how the run ended."""
    try:
        yield
    except Exception as error:
        said = f"at {outcome.hit}, status {outcome.status}: {error}\n{outcome.stderr}"
        raise AssertionError(said) from error


@pytest.mark.parametrize("done", [False, True], ids=["before", "behind"])
def test_killed_at_any_step(stepper: Stepper, trials: Trials, kind: str, done: bool, record_property: Record) -> None:
    tally = Tally()
    name = f"{kind}, killed {'behind' if done else 'before'} a step"
    for step in sample(steps_of(stepper, trials, kind, "kill"), name):
        with tally.fault(f"{name} {step}"), trials(kind) as trial:
            outcome = trial.run(stepper, step=step, done=done)
            with explained(outcome):
                assert outcome.status == -9
                assert len(trial.jobs()) <= 1
                finish(trial, stepper)
    tally.close(record_property, name)


def test_killed_twice(stepper: Stepper, trials: Trials, kind: str, record_property: Record) -> None:
    """The run that goes on is killed too, anywhere in what it still had to do."""
    tally, name = Tally(), f"{kind}, killed twice"
    moments = random.Random(SEED)
    for step in sample(steps_of(stepper, trials, kind, "kill"), name):
        with tally.fault(f"{name}, first at step {step}"), trials(kind) as trial:
            assert trial.run(stepper, step=step).status == -9
            for _ in range(2):
                trial.run(stepper, step=moments.randint(1, 150))
                trial.assert_nothing_lost()
            finish(trial, stepper)
    tally.close(record_property, name)


@pytest.mark.parametrize("done", [False, True], ids=["undone", "done"])
@pytest.mark.parametrize("lasting", [False, True], ids=["once", "lasting"])
@pytest.mark.parametrize("fault", ["full", "broken"])
def test_failing_at_any_step(
    stepper: Stepper, trials: Trials, kind: str, fault: str, lasting: bool, done: bool, record_property: Record
) -> None:
    if done and (lasting or fault == "full"):
        pytest.skip("a step that did its work and says that it failed is a single one, of a broken disk")
    tally = Tally()
    name = f"{kind}, {fault} disk {'from a step on' if lasting else 'behind a step' if done else 'at a step'}"
    for step in sample(steps_of(stepper, trials, kind, fault), name):
        with tally.fault(f"{name} {step}"), trials(kind) as trial:
            outcome = trial.run(stepper, fault=fault, step=step, lasting=lasting, done=done)
            with explained(outcome):
                trial.assert_nothing_lost()
                trial.assert_told(outcome)
                if fault == "full":
                    trial.assert_waiting(outcome)
                finish(trial, stepper)
    tally.close(record_property, name)


@pytest.mark.parametrize("fault", ["kill", "full", "broken"])
@pytest.mark.parametrize("kind", ["bundle", "bundle and events"])
def test_a_fault_in_the_threads_beside_the_job(
    stepper: Stepper, trials: Trials, kind: str, fault: str, record_property: Record
) -> None:
    """One says that the run lives, another one sends events."""
    tally, name = Tally(), f"{kind}, {fault} beside the job"
    for step in sample(steps_of(stepper, trials, kind, fault, OTHERS), name):
        with tally.fault(f"{name}, step {step}"), trials(kind) as trial:
            outcome = trial.run(stepper, fault=fault, step=step, thread=OTHERS, lasting=fault != "kill")
            with explained(outcome):
                if fault == "kill":
                    assert outcome.status == (-9 if outcome.hit else 0), "a beat may come too late to be hit"
                else:
                    trial.assert_told(outcome)
                finish(trial, stepper)
    tally.close(record_property, name)


@pytest.mark.parametrize("kind", ["bundle", "large bundle", "move", "move across"], indirect=True)
@pytest.mark.parametrize("fault", ["kill", "full", "broken"])
def test_a_fault_while_what_was_stored_is_taken_back(
    stepper: Stepper, trials: Trials, kind: str, fault: str, record_property: Record
) -> None:
    """The catalogue refuses the job until an administrator mends it: what was taken back is then stored anew."""
    tally, name = Tally(), f"{kind}, refused by the catalogue, {fault}"
    with trials(kind) as trial:
        refuse(trial, stepper)
        outcome = trial.run(stepper, fault=fault)
        assert outcome.status == 1, outcome
        assert "refuses transaction 1" in outcome.stderr
        trial.assert_nothing_left(0)
        steps = outcome.steps[MAIN]
    for step in sample(steps, name):
        with tally.fault(f"{name} {step}"), trials(kind) as trial:
            refuse(trial, stepper)
            outcome = trial.run(stepper, fault=fault, step=step, lasting=fault == "full")
            with explained(outcome):
                trial.assert_nothing_lost()
                with closing(sqlite3.connect(trial.site.catalog)) as connection, connection:
                    connection.execute("DELETE FROM Transactions WHERE submitter = 1")
                finish(trial, stepper)
    tally.close(record_property, name)


def refuse(trial: Trial, stepper: Stepper) -> None:
    """Have the catalogue hold another's transaction under the id that the job will have."""
    assert stepper(trial.order_of("worker", "--until-empty")).status == 0
    with closing(sqlite3.connect(trial.site.catalog)) as connection, connection:
        connection.execute("INSERT INTO Transactions VALUES (1, 1, 'taken', 1, 'now', 'digest')")
