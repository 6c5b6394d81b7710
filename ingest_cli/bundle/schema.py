"""The shipped JSON Schema of the metadata document, at the speed a document of many files needs.

jsonschema takes some 60 µs a record. `quick_check` turns the plain part of a record's schema into a function that
says True only where the schema surely holds; whatever it does not understand goes to jsonschema, whose word counts.
"""

import json
import math
from collections.abc import Callable
from functools import cache
from importlib.resources import files
from typing import Any

from ..text import MOST_QUOTED, quoted

Schema = dict[str, Any]
PYTHON_TYPES: dict[str, type] = {"string": str, "integer": int, "object": dict, "array": list}
UNDERSTOOD = {"type", "minLength", "minimum", "maximum"}


@cache
def metadata_schema() -> Schema:
    """The schema of metadata.txt, as shipped with the package."""
    text = files(__package__).joinpath("metadata.schema.json").read_text("utf-8")
    schema: Schema = json.loads(text)
    return schema


def surely_holds(record: Any) -> bool:
    """Whether the schema, that of every record and that of its table, surely holds for ``record``."""
    checks = _quick_checks()
    if not checks["record"](record):
        return False
    check = checks.get(record["destinationTable"])
    return check is None or check(record)


def record_problem(record: Any) -> str | None:
    """What the schema finds wrong with a record, in a sentence; None where it holds."""
    definitions = metadata_schema()["$defs"]
    problem = explain(record, definitions["record"])
    if problem is not None:
        return problem
    definition = definitions.get(record["destinationTable"])
    return explain(record, definition) if definition is not None else None


def explain(instance: Any, schema: Schema) -> str | None:
    """The first complaint of jsonschema about ``instance``, with its place; None where the schema holds."""
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import best_match

    error = best_match(Draft202012Validator(schema).iter_errors(instance))
    if error is None:
        return None
    place = "".join(f"[{quoted(part)}]" for part in error.absolute_path)
    message = error.message
    if len(message) > MOST_QUOTED:
        message = message.replace(repr(error.instance), quoted(error.instance))[: 2 * MOST_QUOTED]
    return f"{place}: {message}" if place else message


def quick_check(schema: Schema) -> Callable[[Any], bool]:
    """A function that is True only for instances for which ``schema``, one of a flat object, surely holds."""
    required = tuple(schema.get("required", ()))
    properties = schema.get("properties", {})
    types = [(key, PYTHON_TYPES[value["type"]]) for key, value in properties.items() if _is_understood(value)]
    limits = [(key, limit) for key, value in properties.items() if (limit := _limit(value)) is not None]
    understood = set(schema) <= {"type", "required", "properties"} and schema.get("type") == "object"

    def check(instance: Any) -> bool:
        if not understood or type(instance) is not dict:
            return False
        for key in required:
            if key not in instance:
                return False
        for key, wanted in types:
            if key in instance and type(instance[key]) is not wanted:
                return False
        for key, holds in limits:  # noqa: SIM110 - a generator would double the time
            if key in instance and not holds(instance[key]):
                return False
        return True

    return check


@cache
def _quick_checks() -> dict[str, Callable[[Any], bool]]:
    return {table: quick_check(definition) for table, definition in metadata_schema()["$defs"].items()}


def _is_understood(schema: Schema) -> bool:
    return set(schema) <= UNDERSTOOD and schema.get("type") in PYTHON_TYPES


def _limit(schema: Schema) -> Callable[[Any], bool] | None:
    """What is to hold of a value of the schema's type; None where anything does."""
    if not _is_understood(schema):
        return lambda _: False
    if schema["type"] == "string" and "minLength" in schema:
        least = schema["minLength"]
        return lambda value: len(value) >= least
    if schema["type"] == "integer" and ("minimum" in schema or "maximum" in schema):
        minimum, maximum = schema.get("minimum", -math.inf), schema.get("maximum", math.inf)
        return lambda value: minimum <= value <= maximum
    return None
