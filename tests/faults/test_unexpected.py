"""An error that nobody thought of: whoever asks for the job gets a sentence, and the log how it came about."""

import logging
from dataclasses import replace
from pathlib import Path

import pytest

from ingest_cli.bundle.metadata import Document
from ingest_cli.jobs.job import JobKind
from ingest_cli.jobs.process import this_process
from ingest_cli.jobs.store import open_store
from ingest_cli.pipeline.runner import Runner
from ingest_cli.pipeline.submission import submit
from ingest_cli.services.embedded.policy import EmbeddedPolicy
from ingest_cli.services.factory import connect

from ..support.bundles import write_bundle
from ..support.site import Site, Witness


class BrokenPolicy(EmbeddedPolicy):
    def __init__(self, error: Exception) -> None:
        super().__init__(None)
        self._error = error

    def check(self, document: Document, user: str) -> None:
        raise self._error


@pytest.mark.parametrize("error", [OverflowError("too large"), KeyError("x" * 1_000_000), ValueError("two\nlines")])
def test_an_unexpected_error_is_a_sentence_and_a_traceback_in_the_log(
    site: Site, tmp_path: Path, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    bundle = write_bundle(tmp_path / "b.tar")
    with connect(site.settings) as services, open_store(site.settings) as store, caplog.at_level(logging.ERROR):
        runner = Runner(site.settings, replace(services, policy=BrokenPolicy(error)), store)
        job = submit(store, services.unique_id, JobKind.BUNDLE, bundle, user="u", holder=this_process())
        with pytest.raises(type(error)):
            runner.run(job, Witness())
        said = store.get(job.job_id)
    assert said.state == "failed"
    assert said.exception.startswith(f"unexpected error: {type(error).__name__}: ")
    assert len(said.exception) < 1000
    assert "Traceback" not in said.exception
    (record,) = caplog.records
    assert record.exc_info is not None
    assert f"job {job.job_id}" in record.getMessage()
