"""The ``uploader.json`` of a site: what the document of a bundle holds besides its files, and how that is found out.

It is a list of objects. One without a value is a question: a policy service is asked for what may be chosen, by the
values of other objects (``queryDependency``), and the chosen one becomes the value. The objects themselves, with what
was chosen and from what, are the records of the document, as pacifica-cli 0.5.2 makes them.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import SettingsError, Unavailable, UploadRefused
from ..text import listed, quoted
from .retries import Retries
from .session import Session, object_of

# What an object may have; pacifica-cli takes no others either. They are written in this order.
KEYS = (
    *("sourceTable", "destinationTable", "metaID", "displayType", "displayTitle", "queryDependency", "valueField"),
    *("queryFields", "displayFormat", "key", "value", "directoryOrder", "query_results"),
)
TEXTS = ("sourceTable", "destinationTable", "metaID", "displayTitle", "valueField", "displayFormat", "key")
LOGON = "logon"
NAME = re.compile(r"[\w.-]+")

Row = dict[str, Any]
# The value of one of these, from whoever can tell which is meant.
Choose = Callable[["Question", list["Choice"]], Any]


@dataclass(frozen=True, slots=True)
class Choice:
    """One of the rows that can be chosen: its ``value``, and how it is shown."""

    value: Any
    shown: str


@dataclass(frozen=True, slots=True)
class Given:
    """What was given on the command line for a question: a ``value``, or a ``pattern`` that what is shown matches."""

    value: str | None = None
    pattern: str | None = None


class Question:
    """One object. It is a question where ``is_open``."""

    def __init__(self, fields: Row) -> None:
        self.fields = fields
        self.name: str = fields["metaID"]

    @property
    def is_open(self) -> bool:
        """Whether it has no value yet."""
        return not self.fields.get("value")

    @property
    def value(self) -> Any:
        """Its value."""
        return self.fields.get("value")

    @property
    def title(self) -> str:
        """What it is about, for people."""
        return self.fields.get("displayTitle") or self.name

    @property
    def depends_on(self) -> dict[str, str]:
        """The columns by which it is asked for, and the names of the objects whose values they are to have."""
        return self.fields.get("queryDependency") or {}

    @property
    def parents(self) -> list[str]:
        """The names of the others whose values it needs."""
        return [name for name in self.depends_on.values() if name != self.name]

    @property
    def rows(self) -> list[Row]:
        """What the policy service answered."""
        return self.fields.get("query_results") or []

    @property
    def choices(self) -> list[Choice]:
        """What can be chosen."""
        return [Choice(row[self.column], self.shown(row)) for row in self.rows]

    def shown(self, row: Row) -> str:
        """A row as people are to see it. Raises SettingsError."""
        form = self.fields.get("displayFormat") or f"{{{self.column}}}"
        try:
            return form.format(**row)
        except (KeyError, IndexError, AttributeError, ValueError, TypeError) as error:
            raise SettingsError(
                f"uploader.json: {self.name}: displayFormat {form!r} cannot be used: {error!r}"
            ) from error

    def keep_where(self, wanted: Callable[[Row], bool]) -> None:
        """Forget all other rows."""
        self.fields["query_results"] = [row for row in self.rows if wanted(row)]

    def keep_chosen(self) -> None:
        """Forget what was not chosen; as in pacifica-cli not where the value was typed, and the column has numbers."""
        chosen = [row for row in self.rows if row.get(self.column) == self.value]
        if chosen:
            self.fields["query_results"] = chosen

    @property
    def column(self) -> str:
        """The column that has the values."""
        return self.fields.get("valueField") or "_id"


class Policy:
    """The policy service at ``url``, asked in the name of ``user``, who is known there by name or by number."""

    def __init__(self, session: Session, url: str, user: str, retries: Retries) -> None:
        self._session, self._url, self._user, self._retries = session, url, user, retries
        self._user_id: int | None = None

    def rows(self, table: str | None, columns: list[str] | None, where: Row) -> list[Row]:
        """The rows of a table that the user may choose from. Raises UploadRefused, and what a session raises."""
        if self._user_id is None:
            self._user_id = self._number_of_user()
        return self._ask(self._user_id, table, columns, where)

    def _number_of_user(self) -> int:
        if self._user.isascii() and self._user.isdigit():
            return int(self._user)
        found = self._ask(-1, "users", ["_id"], {"network_id": self._user})
        if not found:
            raise UploadRefused(f"the policy service at {self._url} does not know the user {self._user!r}")
        number: int = found[0]["_id"]
        return number

    def _ask(self, user: int, table: str | None, columns: list[str] | None, where: Row) -> list[Row]:
        body = json.dumps({"user": user, "columns": columns, "where": where, "from": table}).encode()
        while True:
            try:
                answer = self._session.request(
                    "POST", self._url, body=body, headers={"Content-Type": "application/json"}
                )
            except Unavailable as error:
                self._retries.wait(error, getattr(error, "at_least", 0.0))
            else:
                break
        rows = object_of(answer, self._session)
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise UploadRefused(f"the policy service at {self._url} does not answer with rows: {quoted(rows)}")
        return rows


class Questions:
    """All objects of an ``uploader.json``, in their order."""

    def __init__(self, objects: list[Row], path: Path) -> None:
        self.path = path
        self._all = {question.name: question for question in map(Question, objects)}

    @property
    def open(self) -> list[Question]:
        """Those that have no value yet."""
        return [question for question in self._all.values() if question.is_open]

    def answer(self, policy: Policy, given: Mapping[str, Given], choose: Choose) -> None:
        """Find the value of every question: what is ``given``, the only one there is, or what ``choose`` says.

        Raises SettingsError where there is none, and what the policy service raises.
        """
        while self.open:
            question = self._next()
            self._update(question, policy)
            self._settle(question, given.get(question.name, Given()), choose)
        for question in self._all.values():
            question.keep_chosen()

    def records(self) -> list[Row]:
        """The records of the document."""
        return [
            {key: question.fields[key] for key in KEYS if question.fields.get(key) is not None}
            for question in self._all.values()
        ]

    def folder(self) -> str:
        """The folder of the bundle that files are put into, by those that have a ``directoryOrder``."""
        ordered = [question for question in self._all.values() if question.fields.get("directoryOrder") is not None]
        ordered.sort(key=lambda question: int(question.fields["directoryOrder"]))
        return "/".join(question.shown(question.rows[0]) for question in ordered if question.rows)

    def _next(self) -> Question:
        """The first question all of whose parents have values. Raises SettingsError."""
        for question in self.open:
            if not any(self._parent(question, name).is_open for name in question.parents):
                return question
        names = ", ".join(question.name for question in self.open)
        raise SettingsError(f"{self.path}: these depend on each other: {names}")

    def _parent(self, question: Question, name: str) -> Question:
        if name not in self._all:
            raise SettingsError(f"{self.path}: {question.name} depends on {quoted(name)}, which is not there")
        return self._all[name]

    def _update(self, question: Question, policy: Policy, above: tuple[str, ...] = ()) -> None:
        """Ask for the rows of a question, and anew for those of its parents, as pacifica-cli does."""
        if question.name in above:
            raise SettingsError(f"{self.path}: these depend on each other: {', '.join(above)}")
        for name in question.parents:
            self._update(self._parent(question, name), policy, (*above, question.name))
        fields = question.fields
        if fields.get("sourceTable") is None:
            if question.is_open:
                raise SettingsError(f"{self.path}: {question.name} has neither a value nor a sourceTable")
            return
        where = {column: self._all[name].value for column, name in question.depends_on.items() if name in self._all}
        fields["query_results"] = policy.rows(fields["sourceTable"], fields.get("queryFields"), where)
        if not all(question.column in row for row in question.rows):
            raise SettingsError(f"{self.path}: {question.name}: the policy service knows no {question.column!r}")

    def _settle(self, question: Question, given: Given, choose: Choose) -> None:
        if not question.rows:
            raise SettingsError(f"the policy service offers nothing for {question.name} ({question.title})")
        if given.pattern is not None:
            pattern = _compiled(question, given.pattern)
            question.keep_where(lambda row: pattern.search(question.shown(row)) is not None)
            if not question.rows:
                raise SettingsError(f"--{question.name}-regex: nothing that can be chosen matches {given.pattern!r}")
        question.fields["value"] = _value(question, given, choose)


def read_questions(path: Path) -> Questions:
    """The objects of an ``uploader.json``. Raises SettingsError."""
    try:
        objects = json.loads(path.read_text("utf-8-sig"))
    except OSError as error:
        raise SettingsError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"{path} is not JSON: {error}") from error
    if not isinstance(objects, list) or not objects:
        raise SettingsError(f"{path} is not a list of objects")
    names = [_checked(path, number, fields)["metaID"] for number, fields in enumerate(objects, 1)]
    if len(set(names)) < len(names):
        raise SettingsError(f"{path}: two objects have the same metaID")
    return Questions(objects, path)


def _checked(path: Path, number: int, fields: Any) -> Row:
    if not isinstance(fields, dict):
        raise SettingsError(f"{path}: object {number} is {quoted(fields)}")
    if unknown := [key for key in fields if key not in KEYS]:
        raise SettingsError(f"{path}: object {number} has the unknown key {quoted(unknown[0])}")
    wrong = [key for key in TEXTS if not isinstance(fields.get(key, ""), str)]
    wrong += ["queryDependency"] if not _is_table(fields.get("queryDependency") or {}) else []
    wrong += ["directoryOrder"] if not isinstance(fields.get("directoryOrder", 0), int) else []
    wrong += ["metaID"] if not NAME.fullmatch(str(fields.get("metaID", ""))) else []
    if wrong or "destinationTable" not in fields:
        raise SettingsError(f"{path}: object {number}: {(wrong or ['destinationTable'])[0]} is missing or malformed")
    return fields


def _is_table(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(name, str) for name in value.values())


def _compiled(question: Question, pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise SettingsError(f"--{question.name}-regex {pattern!r}: {error}") from error


def _value(question: Question, given: Given, choose: Choose) -> Any:
    choices = question.choices
    # The user's name has been looked up already: here it is the number.
    if given.value is not None and question.name != LOGON:
        if given.value not in [str(choice.value) for choice in choices]:
            raise SettingsError(f"--{question.name}: {given.value!r} is not among what can be chosen: {_list(choices)}")
        return given.value
    if len(choices) == 1 or given.pattern is not None or question.name == LOGON:
        return choices[0].value
    return choose(question, choices)


def _list(choices: list[Choice]) -> str:
    return listed([str(choice.value) for choice in choices])
