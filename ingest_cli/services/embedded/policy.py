"""Policy by JSON Schema: a site writes a schema that the whole metadata document must satisfy."""

import json
from pathlib import Path

from ...bundle.metadata import Document
from ...bundle.schema import Schema, explain
from ...errors import PolicyRefused, SettingsError


class EmbeddedPolicy:
    """Allows what the site's schema at ``path`` allows; without one, every valid document."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._schema = _load(path) if path is not None else None

    def ping(self) -> str:
        """Say by what documents are judged."""
        return "every valid document is allowed" if self._path is None else f"the JSON Schema {self._path}"

    def close(self) -> None:
        """Nothing is open."""

    def check(self, document: Document, user: str) -> None:
        """Raise PolicyRefused where the schema does not hold. The schema does not see ``user``."""
        if self._schema is None:
            return
        problem = self._problem_of(document, self._schema)
        if problem is not None:
            raise PolicyRefused(f"the site's policy refuses this bundle: {problem}")

    def _problem_of(self, document: Document, schema: Schema) -> str | None:
        from referencing.exceptions import Unresolvable

        try:
            return explain(list(document.records), schema)
        except OverflowError:  # where numbers are divided
            return "it holds a number that is too large"
        except (RecursionError, Unresolvable) as error:
            raise SettingsError(
                f"the policy {self._path} refers to what is not there, or to itself: {error}"
            ) from error


def _load(path: Path) -> Schema:
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError

    try:
        schema: Schema = json.loads(path.read_bytes())
        Draft202012Validator.check_schema(schema)
    except OSError as error:
        raise SettingsError(f"cannot read the policy schema {path}: {error.strerror}") from error
    except (ValueError, RecursionError, SchemaError) as error:
        first_line = str(error).splitlines()[0]
        raise SettingsError(f"the policy {path} is not a JSON Schema: {first_line}") from error
    return schema
