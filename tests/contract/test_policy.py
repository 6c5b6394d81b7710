"""What every policy promises: one suite, inherited for each."""

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from ingest_cli.bundle.metadata import Document
from ingest_cli.errors import PolicyRefused
from ingest_cli.services.base import Policy
from ingest_cli.services.embedded.policy import EmbeddedPolicy
from ingest_cli.services.pacifica.policy import PacificaPolicy
from ingest_cli.settings import Endpoint

from ..support.bundles import FILES, document_for
from ..support.pacifica_double import KNOWN, PacificaSite

USER = "dmlb2001"


def document(**transaction: Any) -> Document:
    records = document_for(FILES)
    for record in records:
        table, _, name = record["destinationTable"].partition(".")
        if table == "Transactions":
            record["value"] = transaction.get(name, record["value"])
    return Document.parse(json.dumps(records).encode())


class PolicyContract:
    """To be inherited, with a fixture ``policy`` that allows what is of the submitter, project and instrument KNOWN."""

    @pytest.fixture
    def policy(self) -> Iterator[Policy]:
        raise NotImplementedError

    def test_it_answers(self, policy: Policy) -> None:
        assert policy.ping()

    @pytest.mark.parametrize("user", [USER, "", "Zoë"])
    def test_what_is_known_is_allowed(self, policy: Policy, user: str) -> None:
        policy.check(document(), user)

    @pytest.mark.parametrize("unknown", [{"submitter": 999}, {"project": "nonesuch"}, {"instrument": 999}])
    def test_what_is_unknown_is_refused(self, policy: Policy, unknown: dict[str, Any]) -> None:
        with pytest.raises(PolicyRefused, match=r"policy refuses this bundle: \S"):
            policy.check(document(**unknown), USER)
        policy.check(document(), USER)


class TestEmbedded(PolicyContract):
    @pytest.fixture
    def policy(self, tmp_path: Path) -> Iterator[Policy]:
        rules = [
            {
                "if": {"properties": {"destinationTable": {"const": f"Transactions.{name}"}}},
                "then": {"properties": {"value": {"const": value}}},
            }
            for name, value in KNOWN.items()
        ]
        schema = tmp_path / "policy.json"
        schema.write_text(json.dumps({"items": {"allOf": rules}}))
        with closing(EmbeddedPolicy(schema)) as policy:
            yield policy


class TestPacifica(PolicyContract):
    @pytest.fixture
    def policy(self, pacific: PacificaSite) -> Iterator[Policy]:
        with closing(PacificaPolicy(Endpoint(url=f"{pacific.url}/policy"), "X-Http-Authed-User")) as policy:
            yield policy


def test_without_a_schema_everything_is_allowed() -> None:
    policy = EmbeddedPolicy(None)
    assert policy.ping()
    policy.check(document(project="nonesuch"), USER)
