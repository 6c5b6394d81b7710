"""What may stand in the ``uploader.json`` of a site."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from ingest_cli.client.observer import UploadObserver
from ingest_cli.client.questions import Policy, read_questions
from ingest_cli.client.retries import Retries
from ingest_cli.client.session import Session
from ingest_cli.client.target import Target
from ingest_cli.errors import SettingsError
from ingest_cli.settings import Endpoint

from ..support.uploader_json import UPLOADER


@pytest.mark.parametrize(
    ("objects", "said"),
    [
        ({}, "is not a list of objects"),
        (["x"], "object 1 is 'x'"),
        ([{"metaID": "a", "destinationTable": "T", "colour": 1}], "object 1 has the unknown key 'colour'"),
        ([{"destinationTable": "T"}], "object 1: metaID is missing or malformed"),
        ([{"metaID": "a b", "destinationTable": "T"}], "object 1: metaID is missing or malformed"),
        ([{"metaID": "a"}], "object 1: destinationTable is missing or malformed"),
        ([UPLOADER[0], UPLOADER[0]], "two objects have the same metaID"),
        ([UPLOADER[1]], "project depends on 'instrument', which is not there"),
        ([{**UPLOADER[1], "queryDependency": {"a": "b"}, "metaID": "c"}], "c depends on 'b', which is not there"),
        (
            [{**UPLOADER[1], "queryDependency": {"a": name}, "metaID": other} for name, other in ("ab", "ba")],
            "these depend on each other: b, a",
        ),
        ([{"metaID": "a", "destinationTable": "T"}], "a has neither a value nor a sourceTable"),
    ],
)
def test_a_file_that_is_wrong(tmp_path: Path, objects: Any, said: str) -> None:
    path = tmp_path / "uploader.json"
    path.write_text(json.dumps(objects))
    # It is never asked.
    target = Target(endpoint=Endpoint(url="http://127.0.0.1:1"), status_url="http://127.0.0.1:1")
    policy = Policy(Session(target), target.url, "10", Retries(0, UploadObserver()))
    with pytest.raises(SettingsError, match=f"^{re.escape(str(path))}.*{re.escape(said)}"):
        read_questions(path).answer(policy, {}, lambda question, choices: choices[0].value)


@pytest.mark.parametrize("text", ["", "[", "[1,", "{]"])
def test_a_file_that_is_no_json(tmp_path: Path, text: str) -> None:
    (tmp_path / "uploader.json").write_text(text)
    with pytest.raises(SettingsError, match="is not JSON"):
        read_questions(tmp_path / "uploader.json")
