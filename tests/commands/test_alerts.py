"""The rules that ``ingest deploy cluster`` prints for Prometheus, tried by `promtool` with what a server tells."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from ingest_cli.jobs.job import JobKind
from ingest_cli.jobs.store import open_store
from ingest_cli.server import metrics

from ..support.bundles import write_bundle
from ..support.command import Command
from ..support.site import Site

UP = {'up{job="ingest",instance="one"}': 1}
HOUR = 60


@pytest.fixture
def promtool() -> str:
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("promtool is not installed")
    return program


def told(site: Site) -> dict[str, float]:
    """What a server tells now."""
    with open_store(site.settings) as store:
        lines = [line for line in metrics.exposition(store).splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


def over_time(*told: dict[str, float], up: dict[str, int] = UP) -> dict[str, list[float]]:
    """Each of these for an hour, a minute apart."""
    names = {name for each in told for name in each}
    series = {name: [each.get(name, 0.0) for each in told for _ in range(HOUR)] for name in names}
    return {**series, **{name: [float(value)] * HOUR * len(told) for name, value in up.items()}}


def fired(command: Command, promtool: str, folder: Path, series: dict[str, list[float]], *minutes: int) -> set[str]:
    """Which alerts are raised so many minutes after the beginning."""
    (folder / "rules.yaml").write_text(command("deploy", "cluster", "ingest-alerts.yaml").stdout)
    names = re.findall(r"alert: (\w+)", (folder / "rules.yaml").read_text())
    test = {
        "interval": "1m",
        "input_series": [{"series": name, "values": " ".join(map(str, values))} for name, values in series.items()],
        "alert_rule_test": [
            {"eval_time": f"{minute}m", "alertname": name, "exp_alerts": []} for name in names for minute in minutes
        ],
    }
    # JSON is YAML.
    (folder / "test.yaml").write_text(
        json.dumps({"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": [test]})
    )
    done = subprocess.run([promtool, "test", "rules", "test.yaml"], cwd=folder, capture_output=True, text=True)
    raised = set(re.findall(r"alertname: ?(\w+)", done.stdout + done.stderr))
    assert (done.returncode == 0) == (not raised), done.stdout + done.stderr
    return raised


def submit(site: Site, job_id: int) -> None:
    with open_store(site.settings) as store:
        store.submit(job_id, kind=JobKind.BUNDLE, source="x", fingerprint=str(job_id), user="u", holder=None)


def test_jobs_that_stand_still_and_that_fail(command: Command, promtool: str, site: Site, tmp_path: Path) -> None:
    assert command("-q", write_bundle(tmp_path / "b.tar")).returncode == 0
    quiet = told(site)
    submit(site, 900)
    stuck = told(site)
    assert fired(command, promtool, tmp_path, over_time(quiet, stuck), 2 * HOUR - 1) == {"IngestStandsStill"}
    # While it moves, jobs may wait, and those that are over may be pruned.
    series = over_time(stuck, stuck)
    series['ingest_jobs{state="complete"}'] = [*(1000.0 + n for n in range(HOUR)), *map(float, range(HOUR))]
    assert fired(command, promtool, tmp_path, series, HOUR - 1, HOUR + 10, HOUR + 20, HOUR + 45) == set()
    assert command("-q", write_bundle(tmp_path / "bad.tar", metadata=b"{}")).returncode == 1
    assert fired(command, promtool, tmp_path, over_time(quiet, told(site)), HOUR + 15) == {"IngestJobsFailed"}


def test_a_server_and_all_of_them(command: Command, promtool: str, site: Site, tmp_path: Path) -> None:
    quiet = told(site)
    two = {'up{job="ingest",instance="one"}': 1, 'up{job="ingest",instance="two"}': 0}
    assert fired(command, promtool, tmp_path, over_time(quiet, up=two), HOUR - 1) == {"IngestServerDown"}
    assert fired(command, promtool, tmp_path, over_time(quiet, up={}), HOUR - 1) == {"IngestDown"}


def test_prometheus_takes_the_rules(command: Command, promtool: str, tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text(command("deploy", "cluster", "ingest-alerts.yaml").stdout)
    done = subprocess.run([promtool, "check", "rules", tmp_path / "rules.yaml"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
