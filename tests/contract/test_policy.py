"""What every policy promises: one suite, inherited for each."""

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from ingest_cli.bundle.bounds import MAX_DEPTH
from ingest_cli.bundle.metadata import Document
from ingest_cli.errors import PolicyRefused, SettingsError
from ingest_cli.services.base import Policy
from ingest_cli.services.embedded.policy import EmbeddedPolicy
from ingest_cli.services.pacifica.policy import PacificaPolicy
from ingest_cli.settings import Endpoint

from ..support.bundles import FILES, document_for
from ..support.pacifica_double import KNOWN, Handler, PacificaSite

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

    @pytest.mark.parametrize("known", [{"submitter": "10"}, {"submitter": 10.0}, {"instrument": " 54 "}])
    def test_ids_may_be_written_in_other_ways(self, policy: Policy, known: dict[str, Any]) -> None:
        policy.check(document(**known), USER)

    @pytest.mark.parametrize(
        "unknown", [{"project": 1234}, {"submitter": 999}, {"project": "nonesuch"}, {"instrument": 999}]
    )
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


def policy_of(tmp_path: Path, schema: Any) -> EmbeddedPolicy:
    path = tmp_path / "policy.json"
    path.write_text(json.dumps(schema))
    return EmbeddedPolicy(path)


@pytest.mark.parametrize("given", [1234, "1234"])
def test_a_schema_sees_keys_values_and_projects_as_text(tmp_path: Path, given: Any) -> None:
    is_project = {"properties": {"destinationTable": {"const": "Transactions.project"}}}
    refused = {"not": {"properties": {"value": {"const": "1234"}}}}
    policy = policy_of(tmp_path, {"items": {"if": is_project, "then": refused}})
    policy.check(document(project=1235), USER)
    with pytest.raises(PolicyRefused):
        policy.check(document(project=given), USER)


@pytest.mark.parametrize("schema", [{"$ref": "#"}, {"$ref": "#/nowhere"}, {"$ref": "https://schemas.invalid/a.json"}])
def test_a_schema_that_leads_nowhere(tmp_path: Path, schema: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match=r"policy .*policy\.json refers to what is not there, or to itself"):
        policy_of(tmp_path, schema).check(document(), USER)


def test_a_number_that_cannot_be_judged_is_refused(tmp_path: Path) -> None:
    policy = policy_of(tmp_path, {"items": {"properties": {"other": {"multipleOf": 0.1}}}})
    records = [*document_for(FILES), {"destinationTable": "x", "other": 10**400}]
    with pytest.raises(PolicyRefused, match="a number that is too large"):
        policy.check(Document.of(records), USER)


def test_the_deepest_document_is_judged_by_a_schema_that_follows_it(tmp_path: Path) -> None:
    policy = policy_of(tmp_path, {"items": {"$ref": "#"}, "additionalProperties": {"$ref": "#"}})
    value: Any = []
    for _ in range(MAX_DEPTH - 3):
        value = [value]
    raw = json.dumps([*document_for(FILES), {"destinationTable": "x", "other": value}]).encode()
    policy.check(Document.parse(raw), USER)


def test_the_service_gets_the_document_as_it_was_given(pacific: PacificaSite) -> None:
    sent: list[Any] = []

    def noting(handler: Handler) -> bool:
        sent.extend(json.loads(handler.body()))
        handler.answer(200, {"status": "success"})
        return True

    pacific.fail("POST", 1, noting)
    records = [*document_for(FILES), {"destinationTable": "TransactionKeyValue", "key": "User of Record", "value": 10}]
    with closing(PacificaPolicy(Endpoint(url=f"{pacific.url}/policy"), "X-Http-Authed-User")) as policy:
        policy.check(Document.parse(json.dumps(records).encode()), USER)
    assert sent == records
