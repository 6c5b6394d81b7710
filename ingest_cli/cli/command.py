"""Turns a function into a command: spreads groups of options, reads their words, and applies those that all share."""

import functools
import inspect
import traceback
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any, get_type_hints

from ..errors import IngestError
from .values import Reader, as_words


def command(function: Callable[..., None]) -> Callable[..., None]:
    """The function as typer takes it: a parameter that is a dataclass becomes an option for each of its fields.

    ``verbose`` and ``quiet`` set how much is said, and ``debug`` shows the traceback of what the function raises.
    SIGINT and SIGTERM end it.
    """
    hints = get_type_hints(function, include_extras=True)
    hints.pop("return", None)
    groups = {name: hint for name, hint in hints.items() if isinstance(hint, type) and is_dataclass(hint)}

    @functools.wraps(function)
    def run(**values: Any) -> None:
        from .signals import interruptible

        json = values.get("json", False)
        verbose, quiet, debug = values.get("verbose", 0), values.get("quiet", False), values.get("debug", False)
        try:
            values |= {name: reader.read(values[name]) for name, reader in readers.items() if name in values}
            given = {
                name: group(**{field.name: values.pop(field.name) for field in fields(group) if field.name in values})
                for name, group in groups.items()
            }
            if verbose:
                from .verbosity import set_verbosity

                set_verbosity(verbose, quiet=quiet)
            with interruptible(message="interrupted"):
                function(**values, **given)
        except (IngestError, OSError) as error:
            if debug:
                traceback.print_exc()
            if json and isinstance(error, IngestError):
                from .failures import tell_programs

                tell_programs(function.__name__, values, error)
            raise

    parameters = [
        option
        for name, parameter in inspect.signature(function, eval_str=True).parameters.items()
        for option in (_options_of(groups[name]) if name in groups else [parameter])
    ]
    readers: dict[str, Reader] = {}
    for number, parameter in enumerate(parameters):
        parameters[number], reader = as_words(parameter)
        if reader is not None:
            readers[parameter.name] = reader
    if run.__doc__ is None:  # as under python -OO
        from .pages import summary

        run.__doc__ = summary(function.__name__.replace("_", "-"))
    keyword_only = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in parameters]
    run.__signature__ = inspect.Signature(keyword_only)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in keyword_only}
    return run


def _options_of(group: type) -> list[inspect.Parameter]:
    return list(inspect.signature(group, eval_str=True).parameters.values())
