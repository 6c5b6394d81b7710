"""The quick check says True only where jsonschema does."""

from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from ingest_cli.bundle.schema import metadata_schema, quick_check

from ..support.bundles import document_for

TABLES = sorted(metadata_schema()["$defs"])
VALUES = st.one_of(st.none(), st.booleans(), st.integers(-2, 2), st.floats(), st.text(max_size=2), st.lists(st.none()))
KEYS = ["destinationTable", "key", "value", "file_id", "_id", "name", "size", "hashsum", "subdir", "mimetype", "ctime"]


@given(st.sampled_from(TABLES), st.dictionaries(st.sampled_from(KEYS), VALUES) | VALUES)
def test_a_quick_yes_is_a_yes(table: str, record: Any) -> None:
    definition = metadata_schema()["$defs"][table]
    if quick_check(definition)(record):
        assert Draft202012Validator(definition).is_valid(record)


@given(st.sampled_from(TABLES), st.dictionaries(st.sampled_from(KEYS), VALUES) | VALUES)
def test_a_quick_no_of_a_record_as_it_is_read_is_a_no(table: str, record: Any) -> None:
    """What is a whole number as 12.0 is read as 12."""
    values = record.values() if isinstance(record, dict) else [record]
    assume(not any(isinstance(value, float) and value.is_integer() for value in values))
    definition = metadata_schema()["$defs"][table]
    assert quick_check(definition)(record) == Draft202012Validator(definition).is_valid(record)


@pytest.mark.parametrize("record", document_for({"data/a": b"a"}))
def test_good_records_pay_no_toll(record: dict[str, Any]) -> None:
    for table in ("record", record["destinationTable"]):
        assert quick_check(metadata_schema()["$defs"][table])(record)


def least(schema: dict[str, Any]) -> Any:
    """The least instance for which every rule of the schema is asked."""
    if schema["type"] == "object":
        return {key: least(value) for key, value in schema["properties"].items()}
    return {"string": "x" * schema.get("minLength", 0), "integer": schema.get("minimum", 0)}[schema["type"]]


@pytest.mark.parametrize("table", TABLES)
def test_every_shipped_definition_is_understood(table: str) -> None:
    definition = metadata_schema()["$defs"][table]
    assert quick_check(definition)(least(definition))


@pytest.mark.parametrize("keyword", ["pattern", "enum", "$ref", "maxLength"])
def test_what_is_not_understood_is_left_to_jsonschema(keyword: str) -> None:
    schema = {"type": "object", "properties": {"x": {"type": "string", keyword: "?"}}}
    assert not quick_check(schema)({"x": "y"})


def test_the_schema_is_a_schema() -> None:
    Draft202012Validator.check_schema(metadata_schema())
